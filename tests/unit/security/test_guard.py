"""The guard before the sandboxes: nothing refused reaches one, and every decision is in the audit before its deed."""

import asyncio
import hashlib

import pytest

from actors.core import telemetry
from actors.core.errors import SandboxUnavailable, StoreUnavailable
from actors.core.settings import Settings
from actors.sandbox.base import ExecResult, FileStat, PolicyRefused, WorkspaceError
from actors.security.guard import Caller, SandboxGuard
from actors.security.quarantine import Quarantine
from actors.testing import FakeClock, sequential_ids
from actors.testing.audits import ListAudit
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring.policy import sandbox_policy

CALLER = Caller("user_1", "sess_1", "turn_1", "call_1")


@pytest.fixture
def audit():
    return ListAudit()


@pytest.fixture
def guarded(audit, tmp_path):
    def make(sandboxes, **settings):
        guard = SandboxGuard(
            sandboxes,
            sandbox_policy(Settings(**settings)),
            audit=audit,
            quarantine=Quarantine(tmp_path / "q", max_bytes=1000),
            clock=FakeClock(),
            new_id=sequential_ids(),
        )
        return guard.for_call(CALLER)

    return make


def told(audit):
    return [(record.action, record.decision, record.rule) for record in audit.records]


async def test_a_command_that_is_allowed_is_audited_before_and_after(audit, guarded):
    sandboxes = FakeSandboxes({"ls | wc -l": ExecResult("ok", 0, "2\n", wall_s=0.5)})
    result = await guarded(sandboxes).shell("sess_1", "ls | wc -l", timeout_s=5)
    assert (result.verdict, result.output) == ("ok", "2\n")
    assert told(audit) == [("command.run", "allowed", None), ("command.run", "ended", None)]
    decided, ended = audit.records
    assert (decided.user_id, decided.session_id, decided.turn_id, decided.tool_call_id) == (
        "user_1",
        "sess_1",
        "turn_1",
        "call_1",
    )
    assert decided.detail["source"] == "ls | wc -l"
    assert decided.detail["programs"] == ["ls", "wc"]
    assert (ended.detail["verdict"], ended.detail["exit_code"], ended.detail["wall_s"]) == ("ok", 0, 0.5)
    assert ended.detail["output_sha256"] == hashlib.sha256(b"2\n").hexdigest()


@pytest.mark.parametrize(
    ("command", "rule"),
    [("rm x", "allowed_commands"), ("$x", "not_understood"), ("ls &> /dev/null", "blocked_patterns")],
)
async def test_a_command_that_is_refused_reaches_no_sandbox(audit, guarded, command, rule):
    sandboxes = FakeSandboxes()
    refused = telemetry.POLICY_DECISIONS.labels("command.run", "refused", rule)
    before = refused._value.get()
    result = await guarded(sandboxes).shell("sess_1", command, timeout_s=5)
    assert (result.verdict, result.exit_code) == ("policy", None)
    assert "does not allow" in result.output
    assert sandboxes.runs == []
    assert not await sandboxes.holds("sess_1")
    assert told(audit) == [("command.run", "refused", rule)]
    assert audit.records[0].detail["source"] == command
    assert refused._value.get() == before + 1


async def test_a_program_is_audited_and_needs_python_on_the_list(audit, guarded):
    sandboxes = FakeSandboxes()
    assert (await guarded(sandboxes).python("sess_1", "eval('1')", timeout_s=5)).verdict == "ok"
    without = guarded(sandboxes, policy_allowed_commands=("ls",))
    assert (await without.python("sess_1", "1", timeout_s=5)).verdict == "policy"
    assert [run.source for run in sandboxes.runs] == ["eval('1')"]
    assert told(audit) == [
        ("program.run", "allowed", None),
        ("program.run", "ended", None),
        ("program.run", "refused", "allowed_commands"),
    ]


async def test_what_cannot_be_audited_is_not_done(audit, guarded):
    audit.unavailable = True
    sandboxes = FakeSandboxes()
    calls = (
        guarded(sandboxes).shell("sess_1", "ls", timeout_s=5),
        guarded(sandboxes).shell("sess_1", "rm x", timeout_s=5),
        guarded(sandboxes).python("sess_1", "1", timeout_s=5),
        guarded(sandboxes).write("sess_1", "a", b"x"),
    )
    for call in calls:
        with pytest.raises(StoreUnavailable):
            await call
    assert sandboxes.runs == []
    assert (await sandboxes.stat("sess_1", "a")).kind == "missing"


async def test_a_result_is_kept_when_its_end_cannot_be_audited(audit, guarded):
    class Going(FakeSandboxes):
        async def shell(self, session_id, command, **options):
            audit.unavailable = True
            return await super().shell(session_id, command, **options)

    result = await guarded(Going({"ls": ExecResult("ok", 0, "a\n")})).shell("sess_1", "ls", timeout_s=5)
    assert result.output == "a\n"
    assert told(audit) == [("command.run", "allowed", None)]


async def test_a_sandbox_that_is_not_to_be_had_is_audited_as_the_end(audit, guarded):
    sandboxes = FakeSandboxes(unavailable=SandboxUnavailable("none"))
    with pytest.raises(SandboxUnavailable):
        await guarded(sandboxes).shell("sess_1", "ls", timeout_s=5)
    assert [(r.decision, r.detail.get("verdict")) for r in audit.records] == [
        ("allowed", None),
        ("ended", "sandbox_unavailable"),
    ]


async def test_cancelling_reaches_the_sandbox_and_leaves_the_decision(audit, guarded):
    sandboxes = FakeSandboxes(hanging={"sleep 9"})
    task = asyncio.create_task(guarded(sandboxes).shell("sess_1", "sleep 9", timeout_s=60))
    async with asyncio.timeout(5):
        await sandboxes.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [run.source for run in sandboxes.cancelled] == ["sleep 9"]
    assert told(audit) == [("command.run", "allowed", None)]


async def test_only_refusals_are_audited_where_the_operator_wants_no_more(audit, guarded):
    box = guarded(FakeSandboxes(), policy_log_all_commands=False)
    await box.shell("sess_1", "ls", timeout_s=5)
    await box.write("sess_1", "a", b"x")
    assert audit.records == []
    await box.shell("sess_1", "rm", timeout_s=5)
    assert told(audit) == [("command.run", "refused", "allowed_commands")]


async def test_files_are_read_written_and_listed(audit, guarded):
    box = guarded(FakeSandboxes())
    await box.write("sess_1", "a/b.txt", b"hello")
    assert (await box.read("sess_1", "a/b.txt", max_bytes=10)).data == b"hello"
    assert [info.path for info in await box.list("sess_1")] == ["a", "a/b.txt"]
    assert (await box.stat("sess_1", "a")).kind == "folder"
    assert told(audit) == [("file.write", "allowed", None)]
    assert audit.records[0].detail["sha256"] == hashlib.sha256(b"hello").hexdigest()
    with pytest.raises(WorkspaceError, match="nowhere"):
        await box.read("sess_1", "nowhere", max_bytes=1)


async def test_blocked_files_are_neither_read_nor_written_nor_listed(audit, guarded, tmp_path):
    sandboxes = FakeSandboxes()
    await sandboxes.write("sess_1", ".env", b"secret")
    await sandboxes.write("sess_1", "a", b"x")
    box = guarded(sandboxes)
    with pytest.raises(PolicyRefused, match="blocked file"):
        await box.read("sess_1", ".env", max_bytes=10)
    with pytest.raises(PolicyRefused, match="blocked file"):
        await box.write("sess_1", "server.key", b"mine")
    with pytest.raises(PolicyRefused, match="blocked file"):
        await box.stat("sess_1", ".env")
    assert [info.path for info in await box.list("sess_1")] == ["a"]
    assert (await sandboxes.stat("sess_1", "server.key")).kind == "missing"
    refused = next(record for record in audit.records if record.action == "file.write")
    kept = tmp_path / "q" / refused.id
    assert refused.detail["quarantined"] == str(kept)
    assert kept.read_bytes() == b"mine"


async def test_a_link_counts_as_what_it_leads_to(audit, guarded):
    sandboxes = FakeSandboxes()
    await sandboxes.write("sess_1", ".env", b"secret")
    sandboxes.links["notes.txt"] = ".env"
    box = guarded(sandboxes)
    for call in (box.read("sess_1", "notes.txt", max_bytes=9), box.write("sess_1", "notes.txt", b"x")):
        with pytest.raises(PolicyRefused, match=r"/workspace/\.env"):
            await call
    assert (await sandboxes.read("sess_1", ".env", max_bytes=9)).data == b"secret"
    assert audit.records[0].detail["leads_to"] == ".env"


async def test_a_large_file_is_not_read_to_find_that_out(audit, guarded):
    class Large(FakeSandboxes):
        async def stat(self, session_id, path):
            return FileStat(path, "file", 2 * 1024 * 1024)

        async def read(self, session_id, path, *, offset=0, max_bytes):
            raise AssertionError("it was read")

    with pytest.raises(PolicyRefused, match="may have 1,048,576"):
        await guarded(Large(), policy_max_file_mb=1).read("sess_1", "f", max_bytes=1)
    assert told(audit) == [("file.read", "refused", "max_file_size")]


async def test_a_file_that_is_too_large_goes_to_the_quarantine_if_that_has_room(audit, guarded):
    box = guarded(FakeSandboxes(), policy_max_file_mb=1)
    with pytest.raises(PolicyRefused, match="may have"):
        await box.write("sess_1", "f", b"x" * (1024 * 1024 + 1))
    assert told(audit) == [("file.write", "refused", "max_file_size")]
    assert audit.records[0].detail["quarantined"] is None


async def test_only_regular_files_cross(audit, guarded):
    class Pipe(FakeSandboxes):
        async def stat(self, session_id, path):
            return FileStat(path, "special")

    box = guarded(Pipe())
    for call in (box.read("sess_1", "p", max_bytes=1), box.write("sess_1", "p", b"x")):
        with pytest.raises(PolicyRefused, match="regular"):
            await call
    assert told(audit) == [("file.read", "refused", "regular_files"), ("file.write", "refused", "regular_files")]


async def test_the_rest_passes_through(guarded):
    sandboxes = FakeSandboxes()
    box = guarded(sandboxes)
    await box.write("sess_1", "a", b"x")
    assert await box.holds("sess_1")
    assert (await box.copy("sess_1", "sess_2")).files == 1
    await box.release("sess_1")
    assert not await box.holds("sess_1")
    assert (await box.status()).leased == 1
