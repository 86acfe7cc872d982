"""The policy before real sandboxes: what is refused leaves no trace in them, and links do not lead past it."""

import asyncio

import pytest

from actors.core.clock import SystemClock
from actors.core.ids import uuid7_ids
from actors.core.settings import Settings
from actors.sandbox.base import PolicyRefused
from actors.security.guard import Caller, SandboxGuard
from actors.testing.audits import ListAudit
from actors.wiring.policy import sandbox_policy


@pytest.fixture
def audit():
    return ListAudit()


@pytest.fixture
def guarded(host, audit):
    clock = SystemClock()
    policy = sandbox_policy(Settings(policy_max_file_mb=1))
    guard = SandboxGuard(host, policy, audit=audit, quarantine=None, clock=clock, new_id=uuid7_ids(clock))
    return guard.for_call(Caller("user_1", "s", "turn_1", "call_1"))


@pytest.mark.parametrize(
    "command",
    [
        "touch trace; rm x",
        "touch trace && $(echo rm) x",
        "touch trace | ln -s a b",
        "touch trace; cat <<EOF\n$(touch trace)\nEOF",
        "touch trace; x='a[$(touch trace2)]'; echo $((x))",
        "touch trace > /dev/null 2>&1",
    ],
)
async def test_a_refused_command_leaves_no_trace(host, guarded, audit, command):
    assert (await guarded.shell("s", "echo before > first", timeout_s=10)).verdict == "ok"
    result = await guarded.shell("s", command, timeout_s=10)
    assert (result.verdict, result.exit_code) == ("policy", None)
    assert [info.path for info in await host.list("s")] == ["first"]
    assert [record.decision for record in audit.records] == ["allowed", "ended", "refused"]


async def test_a_refused_command_makes_no_sandbox(host, guarded):
    await guarded.shell("s", "rm x", timeout_s=10)
    assert not await host.holds("s")


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("echo 'b\na' > f; sort f | head -n 1", "a\n"),
        ("for n in 1 2; do echo $n; done; [ -d /workspace ] && echo yes", "1\n2\nyes\n"),
        ("python3 - <<'EOF'\nprint(6 * 7)\nEOF", "42\n"),
        ("mkdir a; touch a/1 a/2; find a -type f -exec basename {} \\; | sort", "1\n2\n"),
        ("printf '%s\\n' x y | xargs -n1 echo got", "got x\ngot y\n"),
        ("f() { echo \"<$1>\"; }\nf one; f 'two three'", "<one>\n<two three>\n"),
        ("greeting=hello; cat <<EOF\n$greeting, ${greeting}!\nEOF", "hello, hello!\n"),
    ],
)
async def test_everyday_lines_run_as_they_always_did(guarded, command, output):
    result = await guarded.shell("s", command, timeout_s=20)
    assert (result.verdict, result.output) == ("ok", output)


async def test_links_lead_to_no_blocked_file(host, guarded):
    await host.shell("s", "echo secret > .env; ln -s .env notes; mkdir d; ln -s ../.env d/l; ln -s d e", timeout_s=10)
    for path in (".env", "notes", "d/l", "e/l", "e/../.env"):
        with pytest.raises(PolicyRefused, match=r"\.env"):
            await guarded.read("s", path, max_bytes=100)
        with pytest.raises(PolicyRefused, match=r"\.env"):
            await guarded.write("s", path, b"x")
    assert (await host.read("s", ".env", max_bytes=100)).data == b"secret\n"
    assert [info.path for info in await guarded.list("s")] == ["d"]


async def test_links_to_ordinary_files_are_followed(host, guarded):
    await host.shell("s", "mkdir d; echo one > d/f; ln -s d/f l; ln -s d e", timeout_s=10)
    assert (await guarded.read("s", "l", max_bytes=100)).data == b"one\n"
    await guarded.write("s", "e/new", b"two")
    assert (await guarded.read("s", "d/new", max_bytes=100)).data == b"two"


async def test_a_pipe_is_no_file_and_holds_nobody_up(host, guarded):
    await host.shell("s", "mkfifo p", timeout_s=10)
    for call in (guarded.read("s", "p", max_bytes=1), guarded.write("s", "p", b"x")):
        async with asyncio.timeout(5):
            with pytest.raises(PolicyRefused, match="regular"):
                await call


async def test_a_large_file_stays_inside(host, guarded):
    await host.shell("s", "head -c 1048577 /dev/zero > large; head -c 1048576 /dev/zero > fits", timeout_s=10)
    with pytest.raises(PolicyRefused, match="1,048,577"):
        await guarded.read("s", "large", max_bytes=1)
    assert (await guarded.read("s", "fits", max_bytes=1)).size_bytes == 1048576


async def test_where_a_path_leads_is_told_without_reading_it(sandbox):
    await sandbox.shell("mkdir d; echo one > d/f; ln -s d/f l; mkfifo p; ln -s loop loop", timeout_s=10)
    told = {path: await sandbox.stat(path) for path in ("l", "d", "p", "d/new", ".", "loop")}
    assert {path: (found.path, found.kind, found.size_bytes) for path, found in told.items() if path != "p"} == {
        "l": ("d/f", "file", 4),
        "d": ("d", "folder", 0),
        "d/new": ("d/new", "missing", 0),
        ".": (".", "folder", 0),
        "loop": ("loop", "special", told["loop"].size_bytes),
    }
    assert (told["p"].path, told["p"].kind) == ("p", "special")
