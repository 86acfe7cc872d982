"""A workspace that moves to another sandbox, and streams that were made to do harm there."""

import io
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import Limits, Sandbox, SandboxBackend, WorkspaceError

MIB = 1024 * 1024


async def packed(sandbox: Sandbox, *, max_bytes: int = 64 * MIB) -> list[bytes]:
    return [chunk async for chunk in sandbox.pack(max_bytes=max_bytes)]


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def ran(sandbox: Sandbox, command: str) -> str:
    result = await sandbox.shell(command, timeout_s=60)
    assert result.verdict == "ok", result
    return result.output


@pytest.fixture
async def other(backend: SandboxBackend, limits: Limits) -> AsyncIterator[Sandbox]:
    """A sandbox for what another one packed."""
    made = await backend.create(limits)
    yield made
    await made.destroy()


_MAKE = """
import os
from pathlib import Path
for number, name in enumerate(["plain", "with space", "grüße-日本-🎭", "n" * 255, "new\\nline", "-dash"]):
    Path(name).write_bytes(os.urandom(number * 10_000))
os.mkdir(b"not-\\xff-utf8"); Path(os.fsdecode(b"not-\\xff-utf8/\\xfe")).write_text("raw")
Path("empty/below").mkdir(parents=True)
Path("run.sh").write_text("#!/bin/sh\\necho it runs\\n"); Path("run.sh").chmod(0o755)
Path("mine").write_text("secret"); Path("mine").chmod(0o400)
Path("closed").mkdir(); Path("closed/inside").write_text("x"); Path("closed/inside").chmod(0); Path("closed").chmod(0)
Path("link").symlink_to("plain"); Path("whole").symlink_to("/workspace/empty"); Path("dangling").symlink_to("later")
Path("out").symlink_to("/etc/passwd"); Path("up").symlink_to("../etc")
os.mkfifo("pipe")
"""

_TELL = """
import hashlib, os
for folder, folders, names in sorted(os.walk(b"/workspace")):
    for name in sorted(folders + names):
        path = os.path.join(folder, name)
        info = os.lstat(path)
        what = os.readlink(path) if os.path.islink(path) else b""
        if os.path.isfile(path) and not what and os.access(path, os.R_OK):
            what = hashlib.sha256(open(path, "rb").read()).hexdigest().encode()
        time = 0 if os.path.islink(path) else int(info.st_mtime)  # a link's own is not kept
        print(path, oct(info.st_mode), time, what)
"""


async def test_a_workspace_moves_as_a_whole(sandbox: Sandbox, other: Sandbox) -> None:
    assert (await sandbox.python(_MAKE, timeout_s=60)).verdict == "ok"
    copied = await other.unpack(stream(*await packed(sandbox)))
    before = (await sandbox.python(_TELL, timeout_s=60)).output.splitlines()
    after = (await other.python(_TELL, timeout_s=60)).output.splitlines()
    left_out = tuple(str(name) for name in (b"/workspace/out", b"/workspace/up", b"/workspace/pipe"))
    assert after == [line for line in before if not line.startswith(left_out)]
    assert len(after) == 16
    assert copied.files == 10
    assert (
        await ran(other, "./run.sh && chmod 700 closed && chmod 600 closed/inside && cat closed/inside") == "it runs\nx"
    )


async def test_ten_thousand_small_files_move(backend: SandboxBackend, limits: Limits) -> None:
    roomy = replace(limits, workspace_bytes=64 * MIB)  # each of them takes a page
    sandbox, other = await backend.create(roomy), await backend.create(roomy)
    await ran(sandbox, "mkdir d && cd d && seq 10000 | split -l 1 -a 4 - f")
    copied = await other.unpack(stream(*await packed(sandbox)))
    assert (copied.files, copied.size_bytes) == (10_000, 48_894)
    assert await ran(other, "cat d/* | sort -n | uniq | wc -l; cat d/faaab") == "10000\n2\n"


async def test_a_workspace_that_is_too_large_is_not_packed(sandbox: Sandbox) -> None:
    await ran(sandbox, "head -c 3000000 /dev/urandom > noise")
    with pytest.raises(WorkspaceError, match="more than 2000000 bytes"):
        await packed(sandbox, max_bytes=2_000_000)
    await ran(sandbox, "rm noise; for n in 1 2 3; do truncate -s 20M sparse$n; done")
    with pytest.raises(WorkspaceError, match="have more than"):
        await packed(sandbox)
    assert await ran(sandbox, "echo it still works") == "it still works\n"


async def test_packing_can_be_left_and_begun_again(sandbox: Sandbox, other: Sandbox) -> None:
    await ran(sandbox, "head -c 5000000 /dev/urandom > noise")
    chunks = sandbox.pack(max_bytes=64 * MIB)
    assert await anext(chunks)
    await chunks.aclose()
    await other.unpack(stream(*await packed(sandbox)))
    assert await ran(other, "sha256sum noise") == await ran(sandbox, "sha256sum noise")


def archive(*members: tuple[str, bytes, str, bytes]) -> bytes:
    """Members are name, kind, where it leads, and what it holds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as made:
        for name, kind, target, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param([archive(("../tmp/out", tarfile.REGTYPE, "", b"x"))], id="parent"),
        pytest.param([archive(("/tmp/out", tarfile.REGTYPE, "", b"x"))], id="absolute"),
        pytest.param([archive(("l", tarfile.SYMTYPE, "/tmp", b""))], id="link out"),
        pytest.param(
            [archive(("l", tarfile.SYMTYPE, "../tmp", b""), ("l/out", tarfile.REGTYPE, "", b"x"))], id="through"
        ),
        pytest.param([archive(("h", tarfile.LNKTYPE, "/etc/passwd", b""))], id="hard link"),
        pytest.param([archive(("d", tarfile.CHRTYPE, "", b""))], id="device"),
        pytest.param([archive(("p", tarfile.FIFOTYPE, "", b""))], id="pipe"),
        pytest.param([b"no archive at all" * 1000], id="noise"),
        pytest.param([b""], id="nothing"),
        pytest.param([archive(*((str(n), tarfile.REGTYPE, "", b"\0" * MIB) for n in range(100)))], id="bomb"),
    ],
)
async def test_a_hostile_stream_neither_gets_out_nor_takes_more_than_there_is(
    sandbox: Sandbox, limits: Limits, hostile: list[bytes]
) -> None:
    with pytest.raises(WorkspaceError):
        await sandbox.unpack(stream(*hostile))
    assert await ran(sandbox, "find /tmp -mindepth 1") == ""
    used = int(await ran(sandbox, "du -sB1 /workspace | cut -f 1"))
    assert used <= limits.workspace_bytes
    assert await ran(sandbox, "find /workspace -type l -o -type p -o -type c") == ""


async def test_a_sandbox_that_is_gone_packs_nothing(sandbox: Sandbox) -> None:
    await sandbox.destroy()
    with pytest.raises(SandboxUnavailable):
        await packed(sandbox)
    with pytest.raises(SandboxUnavailable):
        await sandbox.unpack(stream(b"x"))
