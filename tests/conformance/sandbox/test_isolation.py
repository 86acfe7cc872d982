"""Nothing of the network, of the host, or of other sandboxes can be reached from inside (P10)."""

import errno
import json
import os
import socket
import stat

from actors.sandbox.base import Level
from actors.sandbox.gvisor import OLD_RUNSC, GvisorBackend
from actors.sandbox.syscalls import ARCHITECTURES


async def answers(sandbox, code):
    """What a Python program inside prints, as JSON."""
    result = await sandbox.python(code, timeout_s=30)
    assert result.verdict == "ok", result.output
    return json.loads(result.output)


async def test_probe_finds_isolation_and_every_limit(backend):
    capability = await backend.probe()

    assert list(Level).index(capability.level) >= list(Level).index(Level.NAMESPACE), capability
    assert {"memory", "cpu", "pids", "disk", "time", "output"} <= capability.limits, capability
    assert not [gap for gap in capability.missing if gap != OLD_RUNSC], capability


async def test_host_loopback_is_out_of_reach(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            pass  # from outside it is there
        code = f"""
import json, socket
with socket.socket() as s:
    s.settimeout(2)
    print(json.dumps(s.connect_ex(("127.0.0.1", {port}))))
"""
        assert await answers(sandbox, code) != 0


async def test_no_route_leads_out(sandbox):
    code = """
import json, socket
answers = {}
for address in (("192.0.2.1", 80), ("169.254.169.254", 80), ("8.8.8.8", 53)):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as s:
            s.settimeout(2)
            answers[f"{address} {kind}"] = s.connect_ex(address)
print(json.dumps(answers))
"""
    refused = await answers(sandbox, code)
    assert len(refused) == 6
    assert all(refused.values()), refused


async def test_names_are_not_resolved(sandbox):
    code = """
import json, socket
try:
    print(json.dumps(socket.getaddrinfo("example.com", 80)))
except OSError:
    print("null")
"""
    assert await answers(sandbox, code) is None


async def test_abstract_sockets_of_the_host_are_out_of_reach(sandbox):
    name = f"greenroom-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\0" + name)  # from outside it is there
        code = f"""
import json, socket
with socket.socket(socket.AF_UNIX) as s:
    print(json.dumps(s.connect_ex("\\0{name}")))
"""
        assert await answers(sandbox, code) != 0


async def test_only_local_and_internet_sockets_exist(sandbox):
    code = """
import json, socket
made = []
for family in range(1, 46):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(family, kind).close()
            made.append(family)
        except OSError:
            pass
print(json.dumps(sorted(set(made))))
"""
    made = await answers(sandbox, code)
    assert set(made) <= {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
    assert socket.AF_UNIX in made


async def test_files_of_the_host_are_not_there(backend, sandbox, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    places = [str(secret), str(tmp_path), __file__, "/etc/shadow", "/root", "/home", "/var", "/run", "/sys", "/boot"]
    places += ["/var/run/docker.sock", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/mem", "/dev/loop0"]
    if not isinstance(backend, GvisorBackend):
        places.append("/dev/fuse")  # gVisor's kernel has one of its own, which leads nowhere but to that kernel
    places += [f"/proc/1/root{secret}", f"/proc/self/root{secret}", f"/proc/1/cwd/../{secret}"]

    # An empty folder shows nothing; but only where it may be looked into.
    code = f"""
import json, os
print(json.dumps([p for p in {places!r} if os.path.exists(p) and not (os.path.isdir(p) and os.listdir(p) == [])]))
"""
    assert await answers(sandbox, code) == []


async def test_memory_of_the_kernel_and_of_the_agent_cannot_be_read(backend, sandbox):
    code = """
import json
opened = []
agents = [f"/proc/1/{name}" for name in ("mem", "environ", "maps", "fd/0")]
for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", *agents):
    try:
        open(path, "rb").read(1)
        opened.append(path)
    except OSError:
        pass
print(json.dumps(opened))
"""
    # Where an engine puts /dev/null in its place, there is nothing to read.
    shown = {"/proc/kcore"}
    if isinstance(backend, GvisorBackend):
        # Its kernel lets a user open what is the user's own, the agent's too: its standard input, which is empty. There
        # is nothing to read there that they may not know.
        shown |= {"/proc/1/environ", "/proc/1/maps", "/proc/1/fd/0"}
    assert set(await answers(sandbox, code)) <= shown
    assert (await sandbox.shell("head -c 1 /proc/kcore | wc -c", timeout_s=10)).output.split()[-1] == "0"


async def test_no_descriptor_of_the_agent_leads_out(sandbox):
    """Neither its connection to the host nor a file of the host's can be had of it."""
    code = """
import json, os
had = []
for number in range(64):
    for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try:
            fd = os.open(f"/proc/1/fd/{number}", mode | os.O_NONBLOCK)
        except OSError:
            continue
        had.append(os.readlink(f"/proc/self/fd/{fd}"))
        os.close(fd)
ours = ("pipe:", "/dev/null", "/proc/1/oom_score_adj")
print(json.dumps([name for name in had if not name.startswith(ours)]))
"""
    assert await answers(sandbox, code) == []


async def test_environment_of_the_host_is_not_there(backend, limits, monkeypatch):
    monkeypatch.setenv("GREENROOM_TEST_SECRET", "the-host-key")
    sandbox = await backend.create(limits)

    result = await sandbox.shell("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'", timeout_s=10)

    assert "PATH=" in result.output
    assert "the-host-key" not in result.output
    await sandbox.destroy()


async def test_processes_of_the_host_are_not_there(sandbox):
    code = f"""
import json, os
try:
    os.kill({os.getpid()}, 0)
    reached = True
except ProcessLookupError:
    reached = False
pids = sorted(int(n) for n in os.listdir("/proc") if n.isdigit())
print(json.dumps([reached, pids == [1, os.getpid()]]))
"""
    assert await answers(sandbox, code) == [False, True]


async def test_kernel_settings_cannot_be_written(sandbox, core_pattern):
    before = core_pattern()
    paths = ["sys/kernel/core_pattern", "sys/kernel/hostname", "sys/vm/overcommit_memory", "sysrq-trigger"]

    result = await sandbox.shell(
        "for p in "
        + " ".join(f"/proc/{path}" for path in paths)
        + "; do echo '|/workspace/x' > $p && echo wrote $p; done",
        timeout_s=10,
    )

    assert "wrote" not in result.output
    assert core_pattern() == before


async def test_system_cannot_be_written(sandbox):
    paths = "/x /usr/x /usr/bin/sh /usr/lib/greenroom/x /etc/passwd /dev/x /dev/pts/x /proc/x"
    result = await sandbox.shell(f"for p in {paths}; do echo x > $p && echo wrote $p; done; echo done", timeout_s=10)

    assert result.output.endswith("done\n")
    assert "wrote" not in result.output


_DANGEROUS = (
    "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen",
    "io_uring_setup", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "ptrace",
    "process_vm_readv", "pidfd_getfd", "kexec_load", "init_module", "finit_module", "reboot", "swapon", "syslog",
    "settimeofday", "clock_settime", "open_by_handle_at", "personality", "clone3", "memfd_secret",
)  # fmt: skip


async def test_dangerous_calls_are_refused(sandbox):
    numbers = ARCHITECTURES[os.uname().machine].numbers
    # The argument is NEWUSER for unshare, a value that `personality` does not allow, and nonsense for the rest.
    code = f"""
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
answers = {{}}
for name, number in {[(name, numbers[name]) for name in _DANGEROUS]!r}:
    answer = libc.syscall(number, ctypes.c_long(0x10000000), 0, 0, 0, 0, 0)
    answers[name] = ctypes.get_errno() if answer == -1 else "done"
print(json.dumps(answers))
"""
    refusals = await answers(sandbox, code)
    assert refusals.pop("clone3") == errno.ENOSYS
    assert refusals == dict.fromkeys(set(_DANGEROUS) - {"clone3"}, errno.EPERM)


async def test_no_user_namespace_by_the_tools_own_means(sandbox):
    code = """
import ctypes, json, signal
libc = ctypes.CDLL(None, use_errno=True)
import os
numbers = {"x86_64": 56, "aarch64": 220}
pid = libc.syscall(numbers[os.uname().machine], 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
print(json.dumps(pid))
"""
    assert await answers(sandbox, code) == -1


async def test_terminal_cannot_be_typed_into(sandbox):
    code = """
import fcntl, json, os, pty
master, slave = pty.openpty()
refused = []
for request in (0x5412, 0x541C, 0x5412 | 1 << 32):
    try:
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        answer = libc.ioctl(slave, ctypes.c_ulong(request), b"x")
        refused.append(answer == -1 and ctypes.get_errno() == 1)
    except OSError:
        refused.append(True)
print(json.dumps(refused))
"""
    assert await answers(sandbox, code) == [True, True, True]


async def test_nobody_inside_has_rights(sandbox):
    code = """
import ctypes, json, os
ids = [*os.getresuid(), *os.getresgid()]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
denied = []
device = os.makedev(1, 1)
for attempt in (lambda: os.setuid(0), lambda: os.mknod("/workspace/d", 0o20600, device), lambda: os.chroot("/tmp")):
    try:
        attempt()
        denied.append(False)
    except OSError:
        denied.append(True)
print(json.dumps([
    len(set(ids)) == 1 and ids[0] >= 1000,
    int(status["CapEff"], 16), int(status["CapPrm"], 16), int(status["CapBnd"], 16),
    ctypes.CDLL(None).prctl(39, 0, 0, 0, 0), status["Seccomp"].strip(), all(denied),
]))
"""
    assert await answers(sandbox, code) == [True, 0, 0, 0, 1, "2", True]


async def test_no_program_changes_its_user(sandbox):
    result = await sandbox.shell("find / -xdev -perm /6000 2>/dev/null; find /usr -perm /6000 | head", timeout_s=30)
    assert result.output == ""


async def test_two_sandboxes_do_not_see_each_other(backend, limits):
    one, two = await backend.create(limits), await backend.create(limits)
    await one.shell(
        "echo marker-one > /workspace/m; echo marker-one > /tmp/m; echo marker-one > /dev/shm/m", timeout_s=10
    )

    seen = await two.shell("cat /workspace/m /tmp/m /dev/shm/m; ls -A /workspace /tmp /dev/shm; ps ax", timeout_s=10)

    assert "marker-one" not in seen.output
    assert await two.list() == ()
    await one.destroy()
    await two.destroy()


async def test_tool_code_does_not_run_as_a_user_of_the_host(sandbox, processes, host_user_of, marker):
    """Where we are root the sandbox has a host user of its own, else it has ours."""
    owners = []

    def look(_text):
        owners.extend(host_user_of(pid) for pid in processes(marker))

    await sandbox.shell(f"{marker} & sleep 0.2; echo now; sleep 0.2", timeout_s=10, on_output=look)

    assert owners
    assert all(uid >= 200_000 if os.geteuid() == 0 else uid == os.geteuid() for uid in owners)


async def test_cache_holds_no_program_that_changes_its_user(cache, sandbox):
    await sandbox.shell("true", timeout_s=10)  # so that it is built
    special = [path for path in cache.rglob("*") if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert special == []
