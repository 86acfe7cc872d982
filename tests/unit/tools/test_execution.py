"""run_python and run_shell: what the model reads for each way in which a command can end."""

import asyncio

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import ExecResult, Limits
from actors.testing.sandboxes import FakeRun, FakeSandboxes
from actors.tools.python import python_tool
from actors.tools.shell import shell_tool

LIMITS = Limits()
PYTHON = python_tool(LIMITS)
SHELL = shell_tool(LIMITS)


async def test_output_is_told_and_streamed(make_context, streamed):
    context = make_context(FakeSandboxes({"print(6*7)": ExecResult("ok", 0, "42\n", wall_s=0.01234)}))
    result = await PYTHON.run(context, '{"code": "print(6*7)"}')
    assert (result.content, result.error) == ("42", None)
    assert result.data == {"verdict": "ok", "exit_code": 0, "wall_s": 0.012, "truncated": False, "output_bytes": 0}
    assert streamed == ["42\n"]


async def test_silence_is_told(make_context):
    result = await SHELL.run(make_context(), '{"command": "true"}')
    assert (result.content, result.error) == ("(no output)", None)


@pytest.mark.parametrize(
    ("result", "content"),
    [
        (ExecResult("nonzero", 2, "no such file\n"), "no such file\n[It ended with exit code 2.]"),
        (ExecResult("nonzero", 139, ""), "(no output)\n[It was ended by signal 11.]"),
        (ExecResult("nonzero", None, "The program is too long.\n"), "The program is too long.\n[It was not run.]"),
        (
            ExecResult("timeout", None, "step 1\n"),
            "step 1\n[Stopped: it ran longer than 60 s. Do less at once, or work in steps.]",
        ),
        (
            ExecResult("oom", 137, ""),
            "(no output)\n[Killed: it used more than 512 MB of memory. Process the data in parts.]",
        ),
        (
            ExecResult("pids", 1, "no more\n"),
            "no more\n[It could not start another process: 64 may run at once. Start fewer at a time.]",
        ),
        (
            ExecResult("disk", 1, "No space left\n"),
            "No space left\n[The workspace (256 MB) or /tmp (64 MB) was full. Remove files, or write less.]",
        ),
        (
            ExecResult("output_limit", None, "yyy", truncated=True),
            (
                "yyy\n[The output is not whole: only its head and its tail were kept.]\n"
                "[Stopped: it printed more than 1 MB. Write to a file and print a part.]"
            ),
        ),
        (
            ExecResult("policy", None, "The policy does not allow this: no rm."),
            (
                "The policy does not allow this: no rm.\n"
                "[It was not run. Do it in an allowed way, or tell the user that it is not allowed.]"
            ),
        ),
        (
            ExecResult("cancelled", None, ""),
            "(no output)\n[Stopped: it was cancelled. It may have done part of its work.]",
        ),
        (
            ExecResult("sandbox_lost", None, ""),
            (
                "(no output)\n[The sandbox died while this ran. It may have done part of its work, "
                "and its files may be gone.]"
            ),
        ),
    ],
)
@pytest.mark.parametrize(("tool", "arguments"), [(PYTHON, '{"code": "x"}'), (SHELL, '{"command": "x"}')])
async def test_a_bad_end_is_told_in_words(make_context, tool, arguments, result, content):
    told = await tool.run(make_context(FakeSandboxes({"x": result})), arguments)
    assert told.content == content
    assert told.error == result.verdict
    assert told.data["verdict"] == result.verdict
    assert told.data["exit_code"] == result.exit_code
    assert told.data["truncated"] == result.truncated


async def test_what_it_took_is_for_people_and_programs(make_context):
    taken = ExecResult("ok", 0, "", output_bytes=3, cpu_s=0.12345, peak_memory_bytes=4096)
    result = await SHELL.run(make_context(FakeSandboxes({"x": taken})), '{"command": "x"}')
    assert result.content == "(no output)"
    assert {name: result.data[name] for name in ("output_bytes", "cpu_s", "peak_memory_bytes")} == {
        "output_bytes": 3,
        "cpu_s": 0.123,
        "peak_memory_bytes": 4096,
    }


@pytest.mark.parametrize(
    ("result", "content"),
    [
        (
            ExecResult("ok", 0, "1\n", variables="new"),
            "1\n[This is a new interpreter: nothing of earlier calls is in it.]",
        ),
        (ExecResult("ok", 0, "1\n", variables="kept"), "1"),
        (
            ExecResult("oom", 137, "", variables="gone"),
            (
                "(no output)\n[Killed: it used more than 512 MB of memory. Process the data in parts.]\n"
                "[The interpreter ended, and its variables are gone.]"
            ),
        ),
    ],
)
async def test_what_became_of_variables_is_told(make_context, result, content):
    sandboxes = FakeSandboxes({"x": result})
    told = await PYTHON.run(make_context(sandboxes), '{"code": "x", "keep": true}')
    assert told.content == content
    assert told.data["variables"] == result.variables
    assert sandboxes.runs[0].keep


@pytest.mark.parametrize(("left_s", "expected_s"), [(7.0, 7.0), (10_000.0, 300.0)])
async def test_the_shorter_deadline_counts(make_context, left_s, expected_s):
    sandboxes = FakeSandboxes()
    context = make_context(sandboxes, timeout_s=left_s)
    await PYTHON.run(context, '{"code": "x"}')
    await SHELL.run(context, '{"command": "y"}')
    assert sandboxes.runs == [
        FakeRun("sess_1", "python", "x", expected_s),
        FakeRun("sess_1", "shell", "y", expected_s),
    ]


@pytest.mark.parametrize(("tool", "arguments"), [(PYTHON, '{"code": "x"}'), (SHELL, '{"command": "x"}')])
async def test_without_isolation_nothing_runs_and_the_reason_is_told(make_context, tool, arguments):
    sandboxes = FakeSandboxes(
        unavailable=SandboxUnavailable("user namespaces: run `sysctl kernel.unprivileged_userns_clone=1`")
    )
    result = await tool.run(make_context(sandboxes), arguments)
    assert result.error == "unavailable"
    assert "Nothing was done" in result.content
    assert "user namespaces: run `sysctl kernel.unprivileged_userns_clone=1`" in result.content
    assert sandboxes.runs == []


async def test_cancelling_reaches_the_sandbox(make_context):
    sandboxes = FakeSandboxes(hanging={"sleep 1000"})
    task = asyncio.create_task(SHELL.run(make_context(sandboxes), '{"command": "sleep 1000"}'))
    async with asyncio.timeout(5):
        await sandboxes.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [run.source for run in sandboxes.cancelled] == ["sleep 1000"]


@pytest.mark.parametrize("arguments", ["{}", '{"code": 7}', '{"code": "x", "timeout": 3}', "nonsense", "[]"])
async def test_wrong_arguments_are_for_the_model_to_mend(make_context, arguments):
    sandboxes = FakeSandboxes()
    result = await PYTHON.run(make_context(sandboxes), arguments)
    assert result.error == "invalid_arguments"
    assert result.content.startswith("The arguments are not valid: ")
    assert sandboxes.runs == []
