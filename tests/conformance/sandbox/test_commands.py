"""How commands end, what is kept of their output, and that nothing of them stays behind."""

import asyncio

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.gvisor import OLD_RUNSC


async def test_success_and_failure(sandbox):
    good = await sandbox.shell("echo out; echo err >&2", timeout_s=10)
    bad = await sandbox.shell("exit 3", timeout_s=10)

    assert (good.verdict, good.exit_code, good.output, good.truncated) == ("ok", 0, "out\nerr\n", False)
    assert (bad.verdict, bad.exit_code) == ("nonzero", 3)


async def test_death_by_signal_is_reported_as_a_shell_does(sandbox):
    result = await sandbox.python("import os; os.kill(os.getpid(), 9)", timeout_s=10)
    assert (result.verdict, result.exit_code) == ("nonzero", 137)


async def test_standard_input_is_empty(sandbox):
    assert (await sandbox.shell("cat; echo end", timeout_s=10)).output == "end\n"
    assert (await sandbox.python("import sys; print(repr(sys.stdin.read()))", timeout_s=10)).output == "''\n"


async def test_everyday_tools_are_there(sandbox):
    script = """
set -e
printf 'b\\na\\n' | sort | tr a-z A-Z > f; grep -c A f; sed -n 1p f; awk 'END{print NR}' f
mkdir d; tar czf d/t.tgz f; tar tzf d/t.tgz; find . -name '*.tgz' | xargs echo; python3 -c 'print(6 * 7)'
[[ abc == a* ]] && echo bash; date -d @0 +%Y; echo hi | sha256sum | cut -c1-8
"""
    result = await sandbox.shell(script, timeout_s=20)
    assert result.output.split() == ["1", "A", "2", "f", "./d/t.tgz", "42", "bash", "1970", "98ea6e4f"]


async def test_files_are_listed_and_looked_at(backend, sandbox):
    """With an old gVisor the tools do not work, and the probe says so."""
    result = await sandbox.shell("touch f; ls -l f && stat -c %n f", timeout_s=20)
    if OLD_RUNSC in (await backend.probe()).missing:
        assert "Invalid argument" in result.output
    else:
        assert [line[-1] for line in result.output.splitlines()] == ["f", "f"]


async def test_python_can_use_its_library(sandbox):
    code = """
import asyncio, csv, ctypes, decimal, hashlib, json, lzma, multiprocessing, pathlib, sqlite3, ssl, subprocess, zoneinfo
print(sqlite3.connect("a.db").execute("select 1").fetchone()[0], hashlib.sha256(b"").hexdigest()[:4])
print(subprocess.run(["echo", "sub"], capture_output=True, text=True).stdout.strip())
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
async def main():
    return await asyncio.to_thread(lambda: "thread")
print(asyncio.run(main()))
"""
    result = await sandbox.python(code, timeout_s=30)
    assert result.output.splitlines() == ["1 e3b0", "sub", "[1, 2]", "thread"], result.output


async def test_each_program_is_a_fresh_interpreter(sandbox):
    first = "import json, sys; json.dumps = None; sys.leftover = 1; leftover = 2; print(__name__)"
    second = "import json, sys; print(json.dumps([1]), hasattr(sys, 'leftover'), 'leftover' in globals())"

    assert (await sandbox.python(first, timeout_s=10)).output == "__main__\n"
    assert (await sandbox.python(second, timeout_s=10)).output == "[1] False False\n"


async def test_program_ends_as_an_interpreter_does(sandbox):
    code = """
import atexit, threading, time
atexit.register(print, "exit function")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
unclosed = open("unclosed", "w")
unclosed.write("flushed")
print("no newline", end="")
"""
    result = await sandbox.python(code, timeout_s=10)

    assert result.output == "no newlinethread\nexit function\n"
    assert (await sandbox.read("unclosed", max_bytes=100)).data == b"flushed"


@pytest.mark.parametrize(
    ("code", "exit_code", "output"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("import sys; sys.exit('a reason')", 1, "a reason\n"),
        ("x = 1\n1 / 0", 1, 'Traceback (most recent call last):\n  File "<python>", line 2, in <module>\n    1 / 0\n'),
        ("def f(:", 1, '  File "<python>", line 1\n    def f(:\n'),
        ("\0", 1, ""),
    ],
)
async def test_ends_of_programs(sandbox, code, exit_code, output):
    result = await sandbox.python(code, timeout_s=10)

    assert result.exit_code == exit_code
    assert result.output.startswith(output)
    assert "greenroom" not in result.output  # no frame of the agent in a traceback


async def test_program_imports_what_the_session_wrote(sandbox):
    await sandbox.write("helper.py", b"def answer():\n    return 42\n")
    result = await sandbox.python("import helper; print(helper.answer())", timeout_s=10)

    assert result.output == "42\n"
    assert [entry.path for entry in await sandbox.list()] == ["helper.py"]  # and no compiled files


async def test_workspace_lasts_from_command_to_command(sandbox):
    await sandbox.shell("echo kept > note", timeout_s=10)
    assert (await sandbox.python("print(open('note').read(), end='')", timeout_s=10)).output == "kept\n"


async def test_output_comes_while_the_command_runs(sandbox):
    arrived = asyncio.Event()
    parts = []

    def take(text):
        parts.append(text)
        arrived.set()

    running = asyncio.create_task(
        sandbox.shell("echo first; until test -e go; do sleep 0.02; done; echo second", timeout_s=20, on_output=take)
    )
    async with asyncio.timeout(10):
        await arrived.wait()
    assert not running.done()
    await sandbox.write("go", b"")  # file operations do not wait for the command
    result = await running

    assert parts[0] == "first\n"
    assert "".join(parts) == result.output == "first\nsecond\n"


async def test_output_is_cut_in_the_middle(sandbox, limits):
    result = await sandbox.shell("echo start; head -c 200000 /dev/zero | tr '\\0' x; echo; echo end", timeout_s=20)

    assert result.verdict == "ok"
    assert result.truncated
    assert result.output.startswith("start\nxxx")
    assert result.output.endswith("xxx\nend\n")
    assert "bytes left out" in result.output
    assert len(result.output) < limits.output_bytes + 100


async def test_output_need_not_be_text(sandbox):
    streamed = []
    result = await sandbox.shell(
        "printf 'a\\377\\376b'; printf '\\303'; sleep 0.1; printf '\\251'", timeout_s=10, on_output=streamed.append
    )

    assert result.output == "a��bé"
    assert "".join(streamed) == result.output


async def test_callback_that_fails_does_no_harm(sandbox):
    caught = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context["exception"]))

    def fail(_text):
        raise ValueError("the caller's own")

    result = await sandbox.shell("echo x", timeout_s=10, on_output=fail)

    assert result.verdict == "ok"
    assert [str(error) for error in caught] == ["the caller's own"]


async def test_timeout_keeps_what_was_printed_and_leaves_nothing(sandbox, processes, eventually, marker):
    result = await sandbox.shell(f"echo before; ({marker} &) ; {marker}", timeout_s=1)

    assert result.verdict == "timeout"
    assert result.output == "before\n"
    assert 0.9 < result.wall_s < 6
    assert processes(marker) == []
    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"


@pytest.mark.parametrize(
    "start",
    [
        "{marker} &",
        "nohup {marker} > /dev/null 2>&1 &",
        "setsid {marker} > /dev/null 2>&1 < /dev/null &",
        "python3 -c \"import os; os.fork() and os._exit(0); os.setsid(); os.execlp('sleep', *'{marker}'.split())\"",
    ],
)
async def test_daemons_end_with_their_command(sandbox, processes, start, marker):
    # The last line shows that it was there.
    command = (
        start.format(marker=marker) + f"\nuntil pgrep -f '^{marker}' > /dev/null; do sleep 0.02; done; echo started"
    )
    result = await sandbox.shell(command, timeout_s=20)

    assert (result.verdict, result.output) == ("ok", "started\n")
    assert processes(marker) == []


async def test_cancelling_a_call_kills_its_tree(sandbox, processes, eventually, marker):
    running = asyncio.create_task(sandbox.shell(f"setsid {marker} & {marker}", timeout_s=60))
    await eventually(lambda: len(processes(marker)) >= 2)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert processes(marker) == []
    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"


async def test_commands_run_one_after_the_other(sandbox):
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(sandbox.shell("test ! -e busy && touch busy && sleep 0.1 && rm busy", timeout_s=20))
            for _ in range(5)
        ]
    assert [call.result().verdict for call in calls] == ["ok"] * 5


async def test_waiting_for_another_command_counts_as_time(sandbox):
    first = asyncio.create_task(sandbox.shell("sleep 3", timeout_s=20))
    await asyncio.sleep(0)
    second = await sandbox.shell("echo never", timeout_s=0.2)

    assert (second.verdict, second.exit_code, second.output) == ("timeout", None, "")
    first.cancel()


async def test_command_that_cannot_start_says_so(sandbox):
    for command in ("echo " + "x" * 300_000, "echo \0"):
        result = await sandbox.shell(command, timeout_s=10)
        assert (result.verdict, result.exit_code) == ("nonzero", 126)
        assert "cannot start" in result.output
    result = await sandbox.python("#" * 5_000_000, timeout_s=10)
    assert result.verdict == "nonzero"
    assert "Write it to a file" in result.output


async def test_the_agent_cannot_be_killed_or_stopped_from_inside(sandbox):
    attack = """
kill -KILL 1; kill -STOP 1; kill -TERM 1; kill -INT 1; kill -SEGV 1
python3 - <<'END'
import os, resource, signal
for number in range(1, 65):
    try:
        os.kill(1, number)
    except OSError:
        pass
try:
    resource.prlimit(1, resource.RLIMIT_CPU, (0, 0))
    print("limited")
except PermissionError:
    pass
for name in ("mem", "fd/3", "oom_score_adj", "environ"):
    try:
        open(f"/proc/1/{name}", "r+b")
        print("opened", name)
    except OSError:
        pass
END
"""
    result = await sandbox.shell(attack, timeout_s=20)
    after = await sandbox.shell("echo alive", timeout_s=10)

    assert "limited" not in result.output
    assert "opened" not in result.output
    assert (after.verdict, after.output) == ("ok", "alive\n")


async def test_everything_that_can_be_killed_from_inside_is_the_tools_own(sandbox):
    result = await sandbox.shell("sleep 100 & kill -KILL -1; wait; echo the others are gone", timeout_s=10)

    assert result.output.endswith("the others are gone\n")
    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"


async def test_forged_frames_are_only_output(sandbox):
    code = r"""
import json, os, struct
frames = b""
for number in range(1, 50):
    for header in ({"id": number, "exit": 0}, {"id": number, "out": True}, {"ready": True}):
        text = json.dumps(header).encode()
        frames += struct.pack(">II", len(text), 4) + text + b"fake"
written = [fd for fd in range(3, 256) if fd not in (1, 2)]
reached = []
for fd in written:
    try:
        os.write(fd, frames)
        reached.append(fd)
    except OSError:
        pass
os.write(1, frames)
os.write(2, frames)
print(reached)
raise SystemExit(5)
"""
    result = await sandbox.python(code, timeout_s=10)

    assert (result.verdict, result.exit_code) == ("nonzero", 5)
    assert result.output.endswith("[]\n")
    assert '"exit"' in result.output  # it came as what it is: text
    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"


async def test_destroy_ends_what_runs_and_is_final(sandbox, processes, marker):
    began = asyncio.Event()
    running = asyncio.create_task(sandbox.shell(f"echo on; {marker}", timeout_s=60, on_output=lambda _: began.set()))
    async with asyncio.timeout(10):
        await began.wait()

    await sandbox.destroy()
    result = await running

    assert (result.verdict, result.exit_code, result.output) == ("cancelled", None, "on\n")
    assert processes(marker) == []
    await sandbox.destroy()
    for call in (sandbox.shell("true", timeout_s=1), sandbox.read("x", max_bytes=1), sandbox.list()):
        with pytest.raises(SandboxUnavailable):
            await call
