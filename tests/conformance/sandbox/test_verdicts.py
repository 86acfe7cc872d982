"""How a command ended, judged outside by what the kernel counted; and what it took."""

import pytest

MIB = 1024 * 1024


async def test_too_many_processes(sandbox, limits):
    code = """
import os, time
for number in range(300):
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    print(number + 1, flush=True)
"""
    result = await sandbox.python(code, timeout_s=30)

    assert (result.verdict, result.exit_code) == ("pids", 1)
    assert "Resource temporarily unavailable" in result.output
    started = max(int(line) for line in result.output.splitlines() if line.isdigit())
    assert started == limits.pids - 1  # and the program itself
    later = await sandbox.shell("exit 3", timeout_s=10)
    assert (later.verdict, later.exit_code) == ("nonzero", 3)  # the count is of one command


async def test_a_program_that_makes_do_with_fewer_processes_is_well(sandbox):
    code = """
import os, time
try:
    while os.fork():
        pass
    time.sleep(30)
except OSError:
    print("enough")
"""
    result = await sandbox.python(code, timeout_s=30)
    assert (result.verdict, result.output) == ("ok", "enough\n")


@pytest.mark.parametrize("place", ["/workspace", "/tmp", "/dev/shm"])
async def test_a_full_folder(sandbox, place):
    fill = f"for i in 1 2 3; do head -c 20000000 /dev/zero > {place}/f$i || exit 5; done"
    result = await sandbox.shell(fill, timeout_s=30)

    assert (result.verdict, result.exit_code) == ("disk", 5)
    assert "No space left" in result.output
    assert (await sandbox.shell("true", timeout_s=10)).verdict == "ok"  # full as it is
    await sandbox.shell(f"rm {place}/f?", timeout_s=10)
    assert (await sandbox.shell("exit 3", timeout_s=10)).verdict == "nonzero"


async def test_an_answer_about_room_cannot_be_had_of_a_folder_that_was_swapped(sandbox):
    """The folders themselves cannot be replaced, whatever links lie in them."""
    attack = (
        "rm -rf /workspace /tmp 2>&1; ln -s / /workspace/x; mv /workspace /w 2>&1; head -c 9 /dev/zero > /x; exit 4"
    )
    result = await sandbox.shell(attack, timeout_s=10)
    assert (result.verdict, result.exit_code) == ("nonzero", 4)


async def test_a_flood_counts_all_that_was_printed(sandbox, limits):
    result = await sandbox.shell("yes 0123456789", timeout_s=30)

    assert result.verdict == "output_limit"
    assert result.output_bytes > 16 * limits.output_bytes
    whole = await sandbox.shell("printf 123; printf 4567 >&2", timeout_s=10)
    assert (whole.output_bytes, whole.truncated) == (7, False)


async def test_processor_time_is_counted(sandbox):
    code = """
import os, time
pid = os.fork()
while time.process_time() < 0.2:
    pass
if pid:
    os.waitpid(pid, 0)
"""
    busy = await sandbox.python(code, timeout_s=20)
    idle = await sandbox.shell("sleep 0.5", timeout_s=10)

    assert 0.39 < busy.cpu_s < 1.5
    assert busy.wall_s >= busy.cpu_s / 2
    assert idle.cpu_s < 0.1


async def test_the_peak_of_memory_is_counted_for_each_command(sandbox, limits):
    large = await sandbox.python("b = bytes(100 * 1024 * 1024).replace(b'\\0', b'x')", timeout_s=20)
    small = await sandbox.shell("true", timeout_s=10)
    files = await sandbox.shell("head -c 20000000 /dev/zero > f", timeout_s=10)
    ended = await sandbox.python("bytearray(1 << 30)", timeout_s=20)

    assert 100 * MIB < large.peak_memory_bytes <= limits.memory_bytes
    assert small.peak_memory_bytes < 60 * MIB
    assert 20_000_000 < files.peak_memory_bytes < 100 * MIB  # what lies in the workspace counts
    assert ended.verdict == "oom"
    assert ended.peak_memory_bytes > 200 * MIB


async def test_a_timeout_tells_what_was_taken_too(sandbox):
    result = await sandbox.python("print('before')\nwhile True: pass", timeout_s=1)

    assert (result.verdict, result.output, result.output_bytes) == ("timeout", "before\n", 7)
    assert 0.1 < result.cpu_s < 2
