"""Memory, processor, processes, disk and open files are bounded, and the sandbox lives on (P10)."""

import json
from dataclasses import replace

from actors.sandbox.gvisor import GvisorBackend

MIB = 1024 * 1024


async def still_works(sandbox):
    result = await sandbox.shell("echo alive", timeout_s=10)
    return (result.verdict, result.output) == ("ok", "alive\n")


async def test_fork_bomb_is_bounded(backend, limits):
    sandbox = await backend.create(replace(limits, memory_bytes=512 * MIB))  # which is not to be what ends it
    code = """
import os, time
children = 0
for _ in range(300):
    try:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        children += 1
    except OSError:
        break
print(children)
"""
    result = await sandbox.python(code, timeout_s=20)

    assert result.verdict == "ok"
    assert 10 < int(result.output) <= limits.pids
    assert await still_works(sandbox)
    await sandbox.destroy()


async def test_threads_count_as_processes(sandbox, limits):
    code = """
import threading
started = 0
done = threading.Event()
try:
    for _ in range(300):
        threading.Thread(target=done.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass
print(started)
"""
    result = await sandbox.python(code, timeout_s=20)

    assert int(result.output) <= limits.pids


async def test_one_large_program_is_ended_for_memory(sandbox):
    result = await sandbox.python("b = bytearray(1024 * 1024 * 1024); print(len(b))", timeout_s=30)

    assert result.verdict == "oom"
    assert result.exit_code == 137
    assert str(1024 * MIB) not in result.output
    assert await still_works(sandbox)


async def test_many_programs_are_ended_for_memory(sandbox):
    code = """
import os, time
children = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        block = bytearray(150 * 1024 * 1024)
        time.sleep(3)
        os._exit(0)
    children.append(pid)
print(sum(os.waitpid(pid, 0)[1] == 0 for pid in children))
"""
    result = await sandbox.python(code, timeout_s=60)

    assert result.verdict == "oom"
    assert result.output == "" or int(result.output) <= 1
    assert await still_works(sandbox)


async def test_memory_without_an_owner_is_bounded(sandbox):
    """Files without a name, and pages that no process maps, count as well."""
    code = """
import os
fds = []
for _ in range(40):
    fd = os.memfd_create("x")
    fds.append(fd)
    for _ in range(16):
        os.write(fd, bytes(1024 * 1024))
print("all of it")
"""
    result = await sandbox.python(code, timeout_s=30)

    assert result.verdict == "oom"
    assert await still_works(sandbox)


async def test_workspace_has_an_end(sandbox, limits):
    result = await sandbox.shell(
        "for i in 1 2 3 4 5; do head -c 20000000 /dev/zero > f$i; done; du -sb /workspace | cut -f1", timeout_s=30
    )

    assert "No space left" in result.output
    assert int(result.output.splitlines()[-1]) <= limits.workspace_bytes
    assert await still_works(sandbox)


async def test_other_writable_places_have_an_end(sandbox):
    for place in ("/tmp", "/dev/shm"):
        result = await sandbox.shell(
            f"for i in $(seq 8); do head -c 20000000 /dev/zero > {place}/f$i || break; done; "
            f"du -sm {place} | cut -f1; rm -f {place}/f*",
            timeout_s=30,
        )
        assert int(result.output.splitlines()[-1]) <= 65


async def test_a_file_has_an_end(sandbox, limits):
    result = await sandbox.python("open('big', 'wb').write(bytes(25 * 1024 * 1024))", timeout_s=20)

    assert result.verdict == "nonzero"
    assert "File too large" in result.output
    assert {entry.path: entry.size_bytes for entry in await sandbox.list()}["big"] <= limits.file_bytes


async def test_many_inodes_are_bounded_by_memory(backend, limits):
    sandbox = await backend.create(replace(limits, memory_bytes=96 * MIB))
    code = """
import os
made = 0
try:
    for number in range(1_000_000):
        os.mkdir(f"/workspace/{number}")
        made += 1
        if made % 1000 == 0:
            print(made)
except OSError:
    pass
"""
    result = await sandbox.python(code, timeout_s=60)

    assert result.verdict in ("oom", "ok", "timeout")
    assert int(result.output.split()[-1]) < 600_000
    await sandbox.destroy()


async def test_open_files_are_bounded(sandbox, limits):
    code = """
import os
fds = []
try:
    for _ in range(5000):
        fds.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print(len(fds))
"""
    result = await sandbox.python(code, timeout_s=20)
    assert 100 < int(result.output) < limits.open_files


async def test_limits_cannot_be_raised(sandbox):
    code = """
import json, resource
raised = []
for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
    try:
        resource.setrlimit(limit, (1 << 30, 1 << 30))
        raised.append(limit)
    except (OSError, ValueError):
        pass
print(json.dumps(raised))
"""
    result = await sandbox.python(code, timeout_s=10)
    assert json.loads(result.output) == []


async def test_processor_time_is_shared_out(backend, sandbox, processor_s):
    """Two programs that spin get the half of one processor that the sandbox is allowed, and no more."""
    code = """
import os, time
start = time.monotonic()
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        while time.monotonic() - start < 3:
            pass
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
times = os.times()
print((times.children_user + times.children_system) / (time.monotonic() - start))
"""
    before = processor_s()
    result = await sandbox.python(code, timeout_s=30)

    if isinstance(backend, GvisorBackend):
        # The clock inside counts a processor that is wanted like one that is had: this machine's own tells.
        assert 0.05 < (processor_s() - before) / result.wall_s < 0.75
    else:
        assert 0.05 < float(result.output) < 0.75


async def test_flood_of_output_is_stopped(sandbox, limits):
    result = await sandbox.shell("yes 0123456789", timeout_s=30)

    assert result.verdict == "output_limit"
    assert result.truncated
    assert len(result.output.encode()) < limits.output_bytes + 200
    assert await still_works(sandbox)


async def test_command_has_the_sandboxs_deadline_too(backend, limits):
    sandbox = await backend.create(replace(limits, command_s=0.5))
    result = await sandbox.shell("sleep 30", timeout_s=1000)

    assert result.verdict == "timeout"
    assert result.wall_s < 10
    await sandbox.destroy()
