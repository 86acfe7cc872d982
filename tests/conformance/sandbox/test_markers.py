"""Two sessions never see each other's marker, wherever it was left, also where both run as one user (P10)."""

import asyncio
import json
import os
from pathlib import Path

import pytest

MARKER = "marker-of-one"

PLANT = f"""
import ctypes, os, socket, subprocess, time
marker = "{MARKER}"
for folder in ("/workspace", "/tmp", "/dev/shm"):
    os.makedirs(f"{{folder}}/{{marker}}", exist_ok=True)
    open(f"{{folder}}/{{marker}}/file", "w").write(marker)
os.environ["MARKER"] = marker
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(0x6D61726B, 4096, 0o1666)
ctypes.memmove(libc.shmat(segment, None, 0), marker.encode(), len(marker))
queue = libc.msgget(0x6D61726B, 0o1666)
libc.msgsnd(queue, b"\\1" + bytes(7) + marker.encode(), len(marker), 0)
semaphore = libc.semget(0x6D61726B, 1, 0o1666)
posix = libc.mq_open(b"/" + marker.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
sockets = []
for address in ("\\0" + marker, f"/tmp/{{marker}}/socket"):
    sockets.append(socket.socket(socket.AF_UNIX))
    sockets[-1].bind(address)
    sockets[-1].listen()
server = socket.create_server(("127.0.0.1", 45454))
subprocess.Popen(["sleep", "1000"], env={{"MARKER": marker}})
assert min(segment, queue, semaphore, posix) >= 0, ctypes.get_errno()
print("planted", flush=True)
"""

LOOK = f"""
import ctypes, json, os, socket, sys
marker = "{MARKER}"
found = []
for folder in ("/workspace", "/tmp", "/dev/shm", "/"):
    for parent, folders, files in os.walk(folder):
        if parent.startswith("/proc") or parent.startswith("/sys"):
            folders.clear()
        found += [os.path.join(parent, name) for name in folders + files if marker in name]
def seen(path):
    try:
        return marker.encode() in open(path, "rb").read()
    except OSError:
        return False
for pid in filter(str.isdigit, os.listdir("/proc")):
    found += [f"{{pid}} {{file}}" for file in ("cmdline", "environ", "mountinfo") if int(pid) != os.getpid()
              and seen(f"/proc/{{pid}}/{{file}}")]
found += [f"process {{pid}}" for pid in filter(str.isdigit, os.listdir("/proc")) if seen(f"/proc/{{pid}}/environ")]
found += [key for key, value in os.environ.items() if marker in value]
found += [name for name in ("segment", "marker_state", "sockets") if name in globals() or hasattr(sys, name)]
libc = ctypes.CDLL(None, use_errno=True)
for name, arguments in (("shmget", (4096,)), ("msgget", ()), ("semget", (1,))):
    if getattr(libc, name)(0x6D61726B, *arguments, 0) >= 0:
        found.append(name)
if libc.mq_open(b"/" + marker.encode(), os.O_RDONLY) >= 0:
    found.append("mq_open")
for kind in ("shm", "msg", "sem"):
    try:
        found += open(f"/proc/sysvipc/{{kind}}").read().splitlines()[1:]
    except OSError:
        pass
for address in ("\\0" + marker, f"/tmp/{{marker}}/socket", ("127.0.0.1", 45454)):
    with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as s:
        s.settimeout(2)
        if s.connect_ex(address) == 0:
            found.append(repr(address))
found += [line for line in open("/proc/net/unix").read().splitlines() if marker in line]
print(json.dumps(found))
"""


async def found(sandbox, *, keep=False):
    result = await sandbox.python(LOOK, timeout_s=60, keep=keep)
    assert result.verdict == "ok", result.output
    return json.loads(result.output)


@pytest.fixture
def plant(eventually):
    """Leave the marker everywhere, in a program that runs on."""

    async def start(sandbox):
        heard = []
        running = asyncio.create_task(
            sandbox.python(PLANT + "time.sleep(1000)", timeout_s=120, on_output=heard.append, keep=True)
        )
        await eventually(lambda: heard or running.done())
        assert heard == ["planted\n"], await running
        return running

    return start


async def test_whoever_looks_where_the_marker_is_finds_it(sandbox):
    """The program that looks is worth something: beside the marker it finds it in every place."""
    await sandbox.python(PLANT + "marker_state = 1", timeout_s=30, keep=True)
    seen = await found(sandbox, keep=True)

    for place in ("/workspace/", "/tmp/", "/dev/shm/", "MARKER", "shmget", "msgget", "semget", "mq_open", "45454"):
        assert any(place in each for each in seen), (place, seen)
    assert {"segment", "marker_state", "sockets", repr("\0" + MARKER)} <= set(seen)


async def test_while_one_runs_the_other_finds_nothing_of_it(backend, limits, plant):
    one, two = await backend.create(limits), await backend.create(limits)
    running = await plant(one)

    assert await found(two) == []
    assert await found(two, keep=True) == []

    await one.destroy()
    assert (await running).verdict == "cancelled"
    await two.destroy()


async def test_one_user_for_both_makes_no_difference(backend, limits, plant, monkeypatch):
    """Users are used again after a long time; here at once, beside the first and after its end."""
    monkeypatch.setattr("actors.sandbox.host_users.UID_COUNT", 1)
    one, two = await backend.create(limits), await backend.create(limits)
    running = await plant(one)

    assert await found(two) == []
    kill = await two.python("import os\ntry: os.kill(-1, 9)\nexcept OSError as e: print(e.errno)", timeout_s=10)
    assert kill.verdict == "ok"
    assert not running.done()
    await one.destroy()
    await running
    three = await backend.create(limits)
    assert await found(three) == []

    for sandbox in (two, three):
        await sandbox.destroy()


@pytest.fixture
def owners(processes):
    """The users of this machine as whom processes with these words run."""
    return lambda words: {Path("/proc", str(pid)).stat().st_uid for pid in processes(words)}


async def test_each_sandbox_has_a_user_of_its_own(backend, limits, processes, owners, marker, eventually):
    """Where we are root; an ordinary user has no other users to give."""
    sandboxes = [await backend.create(limits) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(sandbox.shell(marker, timeout_s=60)) for sandbox in sandboxes]
        await eventually(lambda: len(processes(marker)) >= 3)
        users = owners(marker)
        for sandbox in sandboxes:
            await sandbox.destroy()
    assert len(users) == (3 if os.geteuid() == 0 else 1)
    assert {task.result().verdict for task in running} == {"cancelled"}


async def test_a_session_of_the_host_finds_nothing_of_one_that_went_before(host):
    await host.python("one", PLANT, timeout_s=30, keep=True)
    for session in ("two", "three"):
        assert json.loads((await host.python(session, LOOK, timeout_s=60, keep=True)).output) == []
    await host.release("one")
    again = await host.python("one", LOOK, timeout_s=60, keep=True)

    assert (json.loads(again.output), again.variables) == ([], "new")
