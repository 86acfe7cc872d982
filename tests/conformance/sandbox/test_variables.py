"""Python whose variables stay from call to call, and code in it that is hostile (P10)."""

import asyncio
import time

import pytest


@pytest.fixture
def keep(sandbox):
    """Run a program in the interpreter that lasts."""

    async def run(code, *, timeout_s=20.0, on_output=None):
        return await sandbox.python(code, timeout_s=timeout_s, on_output=on_output, keep=True)

    return run


def told(result):
    return result.verdict, result.output, result.variables


async def test_variables_stay(keep):
    assert told(await keep("import math\nx = [1]\ndef f(): return x")) == ("ok", "", "new")
    assert told(await keep("x.append(math.floor(2.5)); print(f())")) == ("ok", "[1, 2]\n", "kept")
    assert told(await keep("print(f() is x, __name__)")) == ("ok", "True __main__\n", "kept")


async def test_a_program_without_keep_is_a_fresh_interpreter_beside_it(sandbox, keep):
    await keep("x = 1")
    fresh = await sandbox.python("print('x' in globals())", timeout_s=10)
    shell = await sandbox.shell("echo shell", timeout_s=10)

    assert (fresh.output, fresh.variables) == ("False\n", None)
    assert (shell.output, shell.variables) == ("shell\n", None)
    assert told(await keep("print(x)")) == ("ok", "1\n", "kept")


async def test_an_exception_takes_no_variables_along(keep):
    await keep("x = 1")
    failed = await keep("def g():\n    return 1 / 0\ng()")

    assert (failed.verdict, failed.exit_code, failed.variables) == ("nonzero", 1, "kept")
    assert '  File "<python 2>", line 2, in g\n    return 1 / 0\n' in failed.output
    assert "greenroom" not in failed.output
    later = await keep("try:\n    g()\nfinally:\n    print(x)")
    assert later.output.startswith("1\n")
    assert "return 1 / 0" in later.output  # lines of an earlier program are found


ENDS = {
    "exit": ("raise SystemExit(3)", "nonzero", 3),
    "well": ("import sys; sys.exit()", "ok", 0),
    "crash": ("import ctypes; ctypes.string_at(0)", "nonzero", 139),
    "signal": ("import os; os.kill(os.getpid(), 9)", "nonzero", 137),
    "memory": ("b = bytearray(1 << 30)", "oom", 137),
    "descriptors": ("import os; os.closerange(0, 100)", "nonzero", 1),
}


@pytest.mark.parametrize("end", ENDS)
async def test_its_end_is_told_and_is_not_the_sandboxs(sandbox, keep, end):
    code, verdict, exit_code = ENDS[end]
    await sandbox.write("note", b"kept")
    await keep("x = 1")
    ended = await keep(f"print('so far')\n{code}", timeout_s=30)

    assert (ended.verdict, ended.variables) == (verdict, "gone")
    assert end == "descriptors" or ended.exit_code == exit_code
    assert ended.output.startswith("so far\n")
    assert told(await keep("print('x' in globals())")) == ("ok", "False\n", "new")
    assert (await sandbox.read("note", max_bytes=10)).data == b"kept"


async def test_an_endless_loop_is_ended_and_nothing_of_it_stays(sandbox, keep, processes, marker):
    await keep("x = 1")
    code = f"import subprocess\nsubprocess.Popen({marker.split()!r})\nprint('so far')\nwhile True: pass"
    stopped = await keep(code, timeout_s=1.5)

    assert told(stopped) == ("timeout", "so far\n", "gone")
    assert processes(marker) == []
    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"


async def test_a_flood_of_output_ends_it(keep):
    stopped = await keep("while True: print('x' * 1000)", timeout_s=30)
    assert (stopped.verdict, stopped.variables) == ("output_limit", "gone")
    assert told(await keep("print(1)")) == ("ok", "1\n", "new")


async def test_a_cancelled_call_ends_it(keep, processes, eventually, marker):
    running = asyncio.create_task(keep(f"import subprocess; subprocess.run({marker.split()!r})"))
    await eventually(lambda: processes(marker))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert processes(marker) == []
    assert told(await keep("print(1)")) == ("ok", "1\n", "new")


# What is dead and not yet buried by the interpreter looks alive in gVisor's list of processes.
@pytest.mark.parametrize("backend", ["bubblewrap", "docker"], indirect=True)
async def test_its_processes_end_with_the_call_that_started_them(sandbox, keep, processes, eventually, marker):
    code = f"""
import os, subprocess, threading
here = subprocess.Popen({marker.split()!r}, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execlp({marker.split()[0]!r}, *{marker.split()!r})
"""
    assert (await keep(code)).variables == "new"
    assert processes(marker) == []
    assert told(await keep("print(here.wait())")) == ("ok", "-9\n", "kept")


async def test_nothing_of_it_runs_between_calls(sandbox, keep):
    code = """
import threading, time
count = 0
def work():
    global count
    while True:
        count += 1
        time.sleep(0.001)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
seen = count
"""
    await keep(code)
    other = await sandbox.python("import time; time.sleep(1); print('slept')", timeout_s=10)
    after = await keep("print(count - seen)")

    assert other.output == "slept\n"
    assert int(after.output) < 300  # it would be near a thousand
    assert told(await keep("time.sleep(0.1); print(count > seen)")) == ("ok", "True\n", "kept")


async def test_one_that_another_command_killed_is_told_as_new(sandbox, keep):
    await keep("x = b'x' * (60 << 20)")  # of which it takes a while to die
    assert (await sandbox.shell("kill -KILL -1; echo survived", timeout_s=10)).output == "survived\n"
    assert told(await keep("print('x' in globals())")) == ("ok", "False\n", "new")


async def test_one_that_another_command_wakes_and_interrupts_says_nothing_to_it(sandbox, keep):
    await keep("import threading, time\ndef talk():\n    while True: print('noise'); time.sleep(0.001)")
    await keep("threading.Thread(target=talk, daemon=True).start()")
    woken = await sandbox.shell("kill -CONT -1; kill -INT -1; sleep 0.3; echo mine", timeout_s=10)

    assert woken.output == "mine\n"
    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"


async def test_what_it_forks_is_not_taken_for_it(keep):
    """The child of a program that forks returns from it, as its parent does."""
    assert (await keep("import os\npid = os.fork()\nx = 'child' if pid == 0 else 'parent'")).variables == "new"
    for _ in range(5):
        assert told(await keep("print(x)")) == ("ok", "parent\n", "kept")


async def test_an_answer_that_was_forged_ahead_belongs_to_no_call(sandbox, keep):
    """It writes into every descriptor that it has: frames of the agent's, and ends of calls to come."""
    code = r"""
import json, os, struct
text = json.dumps({"id": 1, "exit": 0}).encode()
frames = b"".join(struct.pack(">II", len(text), 4) + text + b"fake" for _ in range(20))
for fd in range(3, 64):
    for forged in (b"\0" * 16 + b"\0", frames):
        try:
            os.write(fd, forged)
        except OSError:
            pass
print("written")
"""
    forged = await keep(code)
    # What it said is not the answer to its call. That is its own end, and nobody else's.
    assert forged.variables in ("gone", "new")
    failed = await sandbox.shell("echo mine; exit 7", timeout_s=10)
    assert (failed.verdict, failed.exit_code, failed.output) == ("nonzero", 7, "mine\n")
    assert told(await keep("print(1); raise ValueError"))[0] == "nonzero"


async def test_a_thread_that_forges_answers_ends_only_its_own_call(sandbox, keep):
    """It lies in wait for the number of each call and tells of its end before the program has ended."""
    code = """
import gc, os, sys, threading, time
def lie():
    while True:
        for fd in range(3, 16):
            try:
                os.write(fd, b"x" * 17)
            except OSError:
                pass
        time.sleep(0.001)
threading.Thread(target=lie, daemon=True).start()
"""
    await keep(code)
    for number in range(5):
        other = await sandbox.python(f"print({number}); raise SystemExit(4)", timeout_s=10)
        assert (other.exit_code, other.output) == (4, f"{number}\n")
        lied = await keep("import time; time.sleep(0.05); print('end')")
        assert lied.verdict in ("ok", "nonzero")
        assert (await sandbox.shell("exit 5", timeout_s=10)).exit_code == 5


# As above.
@pytest.mark.parametrize("backend", ["bubblewrap", "docker"], indirect=True)
async def test_processes_that_wake_each_other_are_ended_all_the_same(sandbox, keep, processes, marker):
    """Stopped ones cannot be missed; these do all they can not to be stopped, and to be new ones all the time."""
    code = f"""
import os, signal, subprocess
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                os.kill(-1, signal.SIGCONT)
            except OSError:
                pass
            if os.fork():
                os._exit(0)
subprocess.Popen({marker.split()!r}, start_new_session=True)
"""
    result = await keep(code)

    assert result.variables in ("new", "gone")
    assert processes(marker) == []
    # Those that its parent, which stands still, has not buried do no more.
    alive = await sandbox.shell("ps ax -o stat= | grep -vc '^Z'", timeout_s=20)
    assert int(alive.output) <= 5  # process 1, the interpreter, the shell, ps and grep


async def test_sources_of_any_size(keep):
    big = "x = '" + "y" * 3_000_000 + "'\nprint(len(x))"
    assert told(await keep(big)) == ("ok", "3000000\n", "new")
    assert told(await keep("print(len(x))")) == ("ok", "3000000\n", "kept")


async def test_output_comes_in_its_order_and_while_it_runs(sandbox, keep):
    arrived = asyncio.Event()
    code = """
import os, time
print('first')
while not os.path.exists('go'):
    time.sleep(0.02)
os.write(1, b'second')
"""
    running = asyncio.create_task(keep(code, on_output=lambda _: arrived.set()))
    async with asyncio.timeout(10):
        await arrived.wait()
    assert not running.done()
    await sandbox.write("go", b"")
    assert told(await running) == ("ok", "first\nsecond", "new")
    assert told(await keep("import sys; sys.stdout = None")) == ("ok", "", "kept")
    assert told(await keep("import os; os.write(1, b'raw')")) == ("ok", "raw", "kept")


# gVisor's calls cost what they cost under ptrace.
@pytest.mark.parametrize("backend", ["bubblewrap", "docker"], indirect=True)
async def test_a_call_costs_little(keep):
    await keep("x = 0")
    taken = []
    for _ in range(50):
        started = time.perf_counter()
        await keep("x += 1")
        taken.append(time.perf_counter() - started)
    assert (await keep("print(x)")).output == "50\n"
    assert sorted(taken)[25] < 0.05  # a millisecond on a quiet machine
