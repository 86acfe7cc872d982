"""Files of the workspace through the sandbox's own operations: regular files and folders, and nothing outside."""

import asyncio
import hashlib

import pytest

from actors.sandbox.base import FileInfo, WorkspaceError


async def test_what_is_written_can_be_read(sandbox):
    await sandbox.write("a/b/c.bin", bytes(range(256)))

    whole = await sandbox.read("a/b/c.bin", max_bytes=1000)
    part = await sandbox.read("a/b/c.bin", offset=10, max_bytes=5)
    beyond = await sandbox.read("a/b/c.bin", offset=1000, max_bytes=5)

    assert (whole.data, whole.offset, whole.size_bytes) == (bytes(range(256)), 0, 256)
    assert (part.data, part.offset, part.size_bytes) == (bytes(range(10, 15)), 10, 256)
    assert (beyond.data, beyond.size_bytes) == (b"", 256)
    assert (await sandbox.shell("find a/b/c.bin -printf '%m %s\\n'", timeout_s=10)).output == "644 256\n"


async def test_large_files_pass_in_parts(sandbox):
    data = bytes(range(256)) * 4 * 1024 * 10  # 10 MiB
    await sandbox.write("large", data)

    assert (await sandbox.read("large", max_bytes=len(data) + 1)).data == data
    assert (await sandbox.shell("sha256sum < large", timeout_s=10)).output.split()[0] == hashlib.sha256(
        data
    ).hexdigest()


async def test_empty_file(sandbox):
    await sandbox.write("empty", b"")
    assert await sandbox.read("empty", max_bytes=10) == await sandbox.read("empty", max_bytes=0)
    assert await sandbox.list() == (FileInfo("empty", 0),)


async def test_writing_again_replaces_and_keeps_the_mode(sandbox):
    await sandbox.write("run.sh", b"#!/bin/sh\necho one\n")
    await sandbox.shell("chmod 755 run.sh", timeout_s=10)
    await sandbox.write("run.sh", b"#!/bin/sh\necho two\n")

    assert (await sandbox.shell("./run.sh", timeout_s=10)).output == "two\n"


async def test_list_is_depth_first_and_bounded(sandbox):
    for path in ("b/2", "b/1", "a", "c/d/e"):
        await sandbox.write(path, b"xy")

    entries = await sandbox.list()
    assert [(entry.path, entry.size_bytes, entry.is_dir) for entry in entries] == [
        ("a", 2, False),
        ("b", 0, True),
        ("b/1", 2, False),
        ("b/2", 2, False),
        ("c", 0, True),
        ("c/d", 0, True),
        ("c/d/e", 2, False),
    ]
    assert await sandbox.list("b") == entries[2:4]
    fewer = await sandbox.list(max_entries=3)
    assert (fewer, fewer.cut, entries.cut) == (entries[:3], False, False)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../etc/passwd", "/proc/self/environ", "a/../../etc/passwd", "/dev/null"]
)
async def test_paths_outside_are_refused(sandbox, path):
    for call in (sandbox.read(path, max_bytes=10), sandbox.write(path, b"x"), sandbox.list(path)):
        with pytest.raises(WorkspaceError, match="outside the workspace"):
            await call


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        ("ln -s /etc/passwd x", "outside"),
        ("ln -s /proc/self/mem x", "outside"),
        ("ln -s ../../../../etc/passwd x", "outside"),
        ("ln -s x x", "symbolic|a link"),
        ("mkfifo x", "a pipe"),
        ("mkdir x", "a folder"),
        ("python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('x')\"", "a socket|No such device"),
    ],
)
async def test_only_regular_files_are_read_and_replaced(sandbox, make, problem):
    await sandbox.shell(make, timeout_s=10)
    for call in (sandbox.read("x", max_bytes=10), sandbox.write("x", b"y")):
        async with asyncio.timeout(5):
            with pytest.raises(WorkspaceError, match=problem):
                await call


async def test_folder_that_is_a_link_leads_nowhere(sandbox):
    await sandbox.shell("ln -s /etc out; ln -s /tmp tmp; echo secret > /tmp/s", timeout_s=10)
    for call in (
        sandbox.read("out/passwd", max_bytes=10),
        sandbox.read("tmp/s", max_bytes=10),
        sandbox.write("tmp/new", b"x"),
        sandbox.write("tmp/new/deep", b"x"),
        sandbox.list("out"),
    ):
        with pytest.raises(WorkspaceError, match="outside"):
            await call
    assert await sandbox.list() == ()  # links are neither files nor folders


async def test_links_inside_the_workspace_work(sandbox):
    await sandbox.shell("mkdir real; echo one > real/f; ln -s real link; ln -s real/f f", timeout_s=10)

    await sandbox.write("f", b"two")

    assert (await sandbox.read("link/f", max_bytes=10)).data == b"two"
    assert (
        await sandbox.shell("cat real/f; test -L f && echo a link still", timeout_s=10)
    ).output == "twoa link still\n"


async def test_link_that_changes_while_it_is_read_never_leads_out(sandbox):
    """Tool code swaps a folder for a link to /etc as fast as it can."""
    await sandbox.shell("mkdir good; echo harmless > good/passwd", timeout_s=10)
    code = """
import os, time
os.mkdir("spare")
end = time.monotonic() + 3
while time.monotonic() < end:
    for target in ("/etc", "good"):
        os.symlink(target, "new")
        os.rename("new", "swap")
"""
    running = asyncio.create_task(sandbox.python(code, timeout_s=20))
    seen = set()
    while not running.done():
        try:
            seen.add((await sandbox.read("swap/passwd", max_bytes=100)).data)
        except WorkspaceError:
            seen.add(b"refused")
    await running

    assert seen <= {b"harmless\n", b"refused"}
    assert b"harmless\n" in seen


async def test_what_cannot_be_done_is_said(sandbox, limits):
    await sandbox.write("file", b"x")
    for call, words in (
        (sandbox.read("nothing", max_bytes=1), "No such file"),
        (sandbox.list("nothing"), "No such file"),
        (sandbox.list("file"), "Not a directory"),
        (sandbox.write("file/below", b"x"), "Not a directory|File exists"),
        (sandbox.write(".", b"x"), "folder"),
        (sandbox.read("a\0b", max_bytes=1), "NUL"),
        (sandbox.read("x" * 5000, max_bytes=1), "4096"),
        (sandbox.read("x" * 3000, max_bytes=1), "x{200}: File name too long"),
        (sandbox.read("file", offset=-1, max_bytes=1), "negative"),
        (sandbox.write("big", bytes(limits.file_bytes + 1)), "a file may have"),
    ):
        with pytest.raises(WorkspaceError, match=words):
            await call


async def test_full_workspace_is_said_and_leaves_no_rest(sandbox, limits):
    part = bytes(20 * 1024 * 1024)
    await sandbox.write("one", part)
    with pytest.raises(WorkspaceError, match="No space left"):
        await sandbox.write("two", part)

    assert [entry.path for entry in await sandbox.list()] == ["one"]
    await sandbox.write("three", bytes(limits.workspace_bytes - len(part) - 1024 * 1024))


async def test_names_that_are_no_text(sandbox):
    await sandbox.shell("touch \"$(printf 'n\\377')\"", timeout_s=10)
    [entry] = await sandbox.list()
    entry.path.encode()  # can be sent on


async def test_many_writes_at_once(sandbox):
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(sandbox.write(f"f{number}", bytes([number]) * 2_000_000))
    for number in range(8):
        assert (await sandbox.read(f"f{number}", max_bytes=3_000_000)).data == bytes([number]) * 2_000_000


async def test_removing_a_file_and_an_empty_folder(sandbox):
    await sandbox.write("a/b", b"x")
    await sandbox.write("kept", b"x")
    with pytest.raises(WorkspaceError, match="not empty"):
        await sandbox.remove("a")
    await sandbox.remove("a/b")
    await sandbox.remove("a")
    assert await sandbox.list() == (FileInfo("kept", 1),)
    for path in ("a", "a/b", "kept/below"):
        with pytest.raises(WorkspaceError, match=r"No such file|Not a directory"):
            await sandbox.remove(path)
    for path in (".", "/workspace", "a/.."):
        with pytest.raises(WorkspaceError, match="the workspace itself"):
            await sandbox.remove(path, recursive=True)
    assert await sandbox.list() == (FileInfo("kept", 1),)


async def test_removing_a_folder_with_all_that_is_in_it(sandbox):
    """However deep it is, whatever it is, and whatever its mode."""
    code = """
import os, socket
os.makedirs("a/wide"); os.mkfifo("a/pipe"); os.symlink("/etc/passwd", "a/link"); os.symlink("kept", "a/folder")
for number in range(300):
    open(f"a/wide/{number}", "w").close()
os.makedirs("a/closed/in"); os.chmod("a/closed/in", 0); os.chmod("a/closed", 0o500); os.chmod("a", 0o500)
os.chmod("a", 0o700); os.chdir("a")
for number in range(1500):
    os.mkdir("d"); os.chdir("d")
"""
    await sandbox.write("kept/file", b"x")
    assert (await sandbox.python(code, timeout_s=30)).verdict == "ok"
    await sandbox.remove("a", recursive=True)
    assert [entry.path for entry in await sandbox.list()] == ["kept", "kept/file"]
    assert (await sandbox.shell("ls -a", timeout_s=10)).output.split() == [".", "..", "kept"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc", "kept", "kept/file", "nowhere"])
async def test_removing_a_link_leaves_what_it_leads_to(sandbox, target):
    await sandbox.write("kept/file", b"x")
    await sandbox.shell(f"ln -s {target} link", timeout_s=10)
    await sandbox.remove("link", recursive=True)
    assert (await sandbox.shell("ls", timeout_s=10)).output == "kept\n"
    assert (await sandbox.read("kept/file", max_bytes=5)).data == b"x"


async def test_nothing_outside_is_removed(sandbox):
    await sandbox.shell("ln -s /tmp out; touch /tmp/there", timeout_s=10)
    for path in ("/tmp/there", "../tmp/there", "out/there"):
        with pytest.raises(WorkspaceError, match="outside"):
            await sandbox.remove(path)
    assert (await sandbox.shell("test -f /tmp/there", timeout_s=10)).verdict == "ok"


async def test_a_folder_that_is_swapped_for_a_link_while_it_is_removed_leads_nowhere(sandbox):
    """Tool code swaps a folder for a link to a folder outside as fast as it can."""
    code = """
import os, time
os.makedirs("/tmp/outside/deep", exist_ok=True)
open("/tmp/outside/deep/kept", "w").close()
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        os.makedirs("a/b/c")
        os.symlink("/tmp/outside", "new")
        os.rename("a/b", f"aside-{time.monotonic_ns()}")
        os.rename("new", "a/b")
    except OSError:
        pass
print(os.path.exists("/tmp/outside/deep/kept"))
"""
    running = asyncio.create_task(sandbox.python(code, timeout_s=20))
    removed = 0
    while not running.done():
        try:
            await sandbox.remove("a", recursive=True)
            removed += 1
        except WorkspaceError:
            pass
    assert removed
    assert (await running).output == "True\n"


async def test_a_listing_of_long_names_in_other_scripts_does_not_end_the_sandbox(sandbox):
    """Spelled as JSON they are many times as long."""
    code = """
import os
folder = "界" * 80
path = "/".join([folder] * 14)
os.makedirs(path); os.chdir(path)
for number in range(400):
    os.mkdir(f"{number}" + "字" * 60)
"""
    assert (await sandbox.python(code, timeout_s=30)).verdict == "ok"
    listed = await sandbox.list(max_entries=10_000)
    assert 100 < len(listed) <= 414
    assert listed.cut == (len(listed) < 414)
    assert (await sandbox.shell("true", timeout_s=10)).verdict == "ok"
