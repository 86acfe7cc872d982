"""read_file, write_file and list_files: every byte can be reached, and nothing unreadable is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.errors import SandboxUnavailable
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.tools.base import ToolContext
from actors.tools.files import LISTED_MAX, file_tools

READ, WRITE, LIST = file_tools(slice_bytes=100)


async def test_a_written_file_reads_back(context):
    written = await WRITE.run(context, json.dumps({"path": "notes/tag.txt", "content": "Grüße\n"}))
    assert (written.content, written.error) == ("Wrote 8 bytes to notes/tag.txt.", None)
    assert written.data == {"path": "notes/tag.txt", "size_bytes": 8}
    read = await READ.run(context, '{"path": "notes/tag.txt"}')
    assert (read.content, read.error) == ("Grüße\n", None)
    assert read.data == {"path": "notes/tag.txt", "size_bytes": 8, "offset": 0, "next_offset": None}


async def test_a_long_file_says_how_to_go_on(context):
    await context.sandboxes.write("sess_1", "long.txt", b"a" * 250)
    first = await READ.run(context, '{"path": "long.txt"}')
    assert first.content == "a" * 100 + "\n[Bytes 0 to 100 of 250. Go on with offset=100.]"
    assert first.data["next_offset"] == 100
    last = await READ.run(context, '{"path": "long.txt", "offset": 200}')
    assert last.content == "a" * 50
    beyond = await READ.run(context, '{"path": "long.txt", "offset": 250}')
    assert beyond.content == "(empty: the file has 250 bytes)"


async def test_an_empty_file_is_told(context):
    await context.sandboxes.write("sess_1", "empty", b"")
    assert (await READ.run(context, '{"path": "empty"}')).content == "(empty file)"


@given(text=st.text(min_size=1).filter(lambda text: "\0" not in text), max_bytes=st.integers(1, 20))
async def test_following_the_offsets_gives_the_whole_text(text, max_bytes):
    sandboxes = FakeSandboxes()
    context = ToolContext("s", "u", "t", "c", sandboxes, DictMemories(), lambda _: None, 60.0)
    await sandboxes.write("s", "f", text.encode())
    got, offset, steps = "", 0, 0
    while offset is not None:
        arguments = json.dumps({"path": "f", "offset": offset, "max_bytes": max_bytes})
        result = await READ.run(context, arguments)
        assert result.error is None
        assert "binary" not in result.data
        following = result.data["next_offset"]
        got += result.content if following is None else result.content[: result.content.rindex("\n[Bytes ")]
        assert following is None or following > offset
        offset, steps = following, steps + 1
    assert got == text


@given(data=st.binary(min_size=1, max_size=200), offset=st.integers(0, 250))
async def test_whatever_the_bytes_the_answer_is_readable(data, offset):
    sandboxes = FakeSandboxes()
    context = ToolContext("s", "u", "t", "c", sandboxes, DictMemories(), lambda _: None, 60.0)
    await sandboxes.write("s", "f", data)
    result = await READ.run(context, json.dumps({"path": "f", "offset": offset}))
    assert result.error is None
    assert "\ufffd" not in result.content or "\ufffd".encode() in data
    assert "\0" not in result.content
    assert result.data.get("next_offset") is None or result.data["next_offset"] > offset


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b"text\0text", "Gr\u00fc\u00dfe".encode("latin-1")])
async def test_a_binary_file_is_said_to_be_one(context, data):
    await context.sandboxes.write("sess_1", "f.bin", data)
    result = await READ.run(context, '{"path": "f.bin"}')
    assert result.content == f"f.bin is not UTF-8 text: {len(data)} bytes. Use run_python to look into it."
    assert result.data["binary"] is True
    assert result.error is None


@pytest.mark.parametrize(("tool", "members"), [(READ, {}), (LIST, {})])
async def test_what_is_not_there_is_not_found(context, tool, members):
    result = await tool.run(context, json.dumps({"path": "nowhere", **members}))
    assert result.error == "not_found"
    assert "nowhere" in result.content


@pytest.mark.parametrize(
    "path", ["", "  ", "/etc/passwd", "/workspace2/x", "/workspace/../x", "..", "../x", "a/../../x", "a\0b"]
)
async def test_paths_out_of_the_workspace_are_refused(context, path):
    for tool, members in ((READ, {}), (WRITE, {"content": "x"}), (LIST, {})):
        result = await tool.run(context, json.dumps({"path": path, **members}))
        assert result.error == "invalid_path"
        assert "relative" in result.content


@pytest.mark.parametrize(
    "path", ["/workspace/a/b.txt", "./a/b.txt", "a//b.txt", "a/c/../b.txt", "/workspace/./a/b.txt"]
)
async def test_other_spellings_of_a_path_are_understood(context, path):
    await context.sandboxes.write("sess_1", "a/b.txt", b"x")
    read = await READ.run(context, json.dumps({"path": path}))
    assert (read.content, read.data["path"]) == ("x", "a/b.txt")
    assert (await LIST.run(context, '{"path": "/workspace"}')).content == "a/\na/b.txt  1 bytes"


async def test_a_folder_is_not_written_over(context):
    await context.sandboxes.write("sess_1", "a/b", b"x")
    result = await WRITE.run(context, '{"path": "a", "content": "x"}')
    assert result.error == "invalid_path"


async def test_files_are_listed_with_their_sizes(context):
    assert (await LIST.run(context, "{}")).content == "(no files)"
    await context.sandboxes.write("sess_1", "b.txt", b"x" * 1234)
    await context.sandboxes.write("sess_1", "a/c.txt", b"x")
    listed = await LIST.run(context, "{}")
    assert listed.content == "a/\na/c.txt  1 bytes\nb.txt  1,234 bytes"
    assert listed.data == {"entries": 3, "truncated": False}
    assert (await LIST.run(context, '{"path": "a"}')).content == "a/c.txt  1 bytes"


async def test_a_list_that_does_not_fit_says_that_it_is_not_whole(context):
    for name in ("a", "b", "c"):
        await context.sandboxes.write("sess_1", name, b"")
    context.sandboxes.listed_max = 2
    listed = await LIST.run(context, "{}")
    assert listed.content.endswith("[More than 2 entries. List one folder at a time.]")
    assert listed.data == {"entries": 2, "truncated": True}


async def test_a_long_list_says_that_it_is_not_whole(context):
    for number in range(LISTED_MAX + 1):
        await context.sandboxes.write("sess_1", f"{number:04}", b"")
    listed = await LIST.run(context, "{}")
    assert listed.content.endswith(f"[More than {LISTED_MAX} entries. List one folder at a time.]")
    assert listed.data == {"entries": LISTED_MAX, "truncated": True}


async def test_without_a_sandbox_there_are_no_files(make_context):
    context = make_context(FakeSandboxes(unavailable=SandboxUnavailable("No bubblewrap.")))
    for tool, arguments in ((READ, '{"path": "f"}'), (WRITE, '{"path": "f", "content": ""}'), (LIST, "{}")):
        result = await tool.run(context, arguments)
        assert result.error == "unavailable"
        assert "No bubblewrap." in result.content
