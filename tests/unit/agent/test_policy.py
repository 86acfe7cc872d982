"""A refusal of the policy is data for the model, in the journal and in the audit; the turn goes on."""

import json
from typing import Any

from actors.core.events import ToolCompleted
from actors.core.messages import ToolMessage
from actors.core.settings import EVERYDAY_COMMANDS, GUIDE_COMMANDS
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

ALLOWED = (*GUIDE_COMMANDS, *EVERYDAY_COMMANDS)


async def test_a_refused_command_is_an_outcome_that_the_model_reads(world: Any) -> None:
    llm = ScriptedLLM([calls(("run_shell", {"command": "ls; rm x"}), ids=["id_1"]), says("I may not.")])
    sandboxes = FakeSandboxes()
    host = world.host(llm, sandboxes=sandboxes, policy_allowed_commands=ALLOWED)
    await host.chat(world.submit("Remove it."), wait_s=10)
    (outcome,) = await world.bodies(ToolCompleted)
    assert (outcome.error, outcome.data["verdict"], outcome.data["exit_code"]) == ("policy", "policy", None)
    assert "the program rm is not among those that are allowed" in outcome.content
    assert llm.requests[1].messages[-1] == ToolMessage("id_1", outcome.content)
    assert sandboxes.runs == []
    (record,) = world.audit.records
    assert (record.action, record.decision, record.rule) == ("command.run", "refused", "allowed_commands")
    assert (record.user_id, record.session_id, record.tool_call_id) == ("user_1", "sess_1", "id_1")
    assert record.turn_id == "turn_1"


async def test_a_refused_file_is_an_outcome_too(world: Any) -> None:
    wanted = ("write_file", {"path": ".env", "content": "KEY=1"})
    host = world.host(ScriptedLLM([calls(wanted), says("I may not.")]), policy_allowed_commands=ALLOWED)
    await host.chat(world.submit("Write it."), wait_s=10)
    (outcome,) = await world.bodies(ToolCompleted)
    assert (outcome.error, json.dumps(outcome.data)) == ("policy", "{}")
    assert "/workspace/.env is a blocked file" in outcome.content
    (record,) = world.audit.records
    assert (record.action, record.decision, record.rule) == ("file.write", "refused", "blocked_files")
    kept = world.settings.quarantine_dir / record.id
    assert record.detail["quarantined"] == str(kept)
    assert kept.read_bytes() == b"KEY=1"


async def test_every_command_that_runs_is_in_the_audit(world: Any) -> None:
    wanted = (("run_shell", {"command": "ls"}), ("run_python", {"code": "1"}))
    host = world.host(ScriptedLLM([calls(*wanted), says("Done.")]), policy_allowed_commands=ALLOWED)
    await host.chat(world.submit("Look."), wait_s=10)
    assert [(record.action, record.decision) for record in world.audit.records] == [
        ("command.run", "allowed"),
        ("command.run", "ended"),
        ("program.run", "allowed"),
        ("program.run", "ended"),
    ]
