"""The toolbox answers every call, within its size, whatever the model writes and whatever a tool does."""

import asyncio
import json
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from actors.core.errors import MemoryUnavailable
from actors.core.messages import ToolCall
from actors.sandbox.base import Limits
from actors.testing import FakeClock
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.tools import toolbox as toolbox_module
from actors.tools.base import ToolContext, ToolFailed, ToolResult, tool
from actors.tools.toolbox import Toolbox, cut, default_tools


async def shout(context: ToolContext, text: Annotated[str, "What to shout."]) -> ToolResult:
    """Say it loudly."""
    return ToolResult(text.upper(), data={"volume": 11})


async def crash(context: ToolContext) -> ToolResult:
    """Has a bug."""
    raise KeyError("missing")


async def refuse(context: ToolContext) -> ToolResult:
    """Cannot."""
    raise ToolFailed("not_found", "There is no such thing.")


async def forgetful(context: ToolContext) -> ToolResult:
    """Needs the memory store."""
    raise MemoryUnavailable("The memory store did not answer within 10 s.")


async def stuck(context: ToolContext) -> ToolResult:
    """Never ends."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


TOOLS = tuple(tool(function) for function in (shout, crash, refuse, forgetful, stuck))
TOOLBOX = Toolbox(TOOLS, max_chars=1000)
EVERYTHING = Toolbox(default_tools(FakeClock(), Limits(), max_chars=1000), max_chars=1000)


def call(name: str, arguments: str = "{}") -> ToolCall:
    return ToolCall("call_1", name, arguments)


def test_the_order_is_kept():
    assert [spec.name for spec in TOOLBOX.specs] == ["shout", "crash", "refuse", "forgetful", "stuck"]


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two tools are called shout"):
        Toolbox([tool(shout), tool(shout)], max_chars=1000)


def test_a_size_without_room_for_the_marker_is_refused():
    with pytest.raises(ValueError, match="at least 100"):
        Toolbox([], max_chars=99)


async def test_a_call_is_run(context):
    result = await TOOLBOX.run(call("shout", '{"text": "hi"}'), context)
    assert result == ToolResult("HI", data={"volume": 11})


async def test_an_unknown_tool_gets_the_names_of_those_there_are(context):
    result = await TOOLBOX.run(call("whisper"), context)
    assert result.error == "unknown_tool"
    assert result.content == "There is no tool 'whisper'. There are: shout, crash, refuse, forgetful, stuck."


async def test_a_refusal_keeps_its_kind(context):
    result = await TOOLBOX.run(call("refuse"), context)
    assert (result.content, result.error) == ("There is no such thing.", "not_found")


async def test_a_bug_is_told_and_logged_with_its_traceback(context):
    with capture_logs() as logs:
        result = await TOOLBOX.run(call("crash"), context)
    assert result.error == "crashed"
    assert result.content == "The tool crashed: KeyError: 'missing'"
    assert [(entry["event"], entry["tool"], entry["exc_info"]) for entry in logs] == [("tool.crashed", "crash", True)]


async def test_an_error_of_ours_keeps_its_code(context):
    result = await TOOLBOX.run(call("forgetful"), context)
    assert (result.content, result.error) == ("The memory store did not answer within 10 s.", "memory_unavailable")


async def test_a_tool_without_a_deadline_of_its_own_is_stopped(make_context, monkeypatch):
    monkeypatch.setattr(toolbox_module, "GRACE_S", 0.0)
    result = await TOOLBOX.run(call("stuck"), make_context(timeout_s=0.01))
    assert result.error == "timeout"
    assert "within 0.01 s" in result.content


async def test_cancellation_is_raised(context):
    async with asyncio.timeout(5):
        task = asyncio.create_task(TOOLBOX.run(call("stuck"), context))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_long_answer_is_cut(context):
    text = "x" * 600 + "y" * 600
    result = await TOOLBOX.run(call("shout", f'{{"text": "{text}"}}'), context)
    assert 990 <= len(result.content) <= 1000
    assert result.content.startswith("X" * 600)
    assert result.content.endswith("Y" * 300)
    left_out = result.data["left_out_chars"]
    assert f"\n[… {left_out} characters left out …]\n" in result.content
    assert result.data["volume"] == 11


@pytest.mark.parametrize("max_chars", [100, 133, 1000, 16_000])
async def test_a_slice_of_a_file_is_never_cut(context, max_chars):
    toolbox = Toolbox(default_tools(FakeClock(), Limits(), max_chars=max_chars), max_chars=max_chars)
    await context.sandboxes.write("sess_1", "f", b"x" * 90_000_000)
    result = await toolbox.run(call("read_file", '{"path": "f", "offset": 10000000}'), context)
    assert result.data["next_offset"] > 10_000_000
    assert "left_out_chars" not in result.data


@given(text=st.text(max_size=3000), max_chars=st.integers(100, 2000))
def test_a_cut_keeps_head_and_tail_and_counts_what_it_left_out(text, max_chars):
    shown, left_out = cut(text, max_chars)
    assert len(shown) <= max_chars
    if len(text) <= max_chars:
        assert (shown, left_out) == (text, 0)
        return
    marker = f"\n[… {left_out:,} characters left out …]\n"
    head, _, tail = shown.rpartition(marker)
    assert len(head) + left_out + len(tail) == len(text)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) >= 20
    assert len(tail) >= 20


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from([spec.name for spec in EVERYTHING.specs]) | st.text(max_size=2000)
KEYS = st.sampled_from(["code", "command", "path", "content", "offset", "max_bytes", "text", "query", "limit"])


@given(
    name=NAMES,
    arguments=st.text() | JSONISH.map(json.dumps) | st.dictionaries(KEYS, JSONISH, max_size=3).map(json.dumps),
)
async def test_whatever_the_model_writes_there_is_an_answer(name, arguments):
    context = ToolContext("s", "u", "t", "c", FakeSandboxes(), DictMemories(), lambda _: None, 60.0)
    with capture_logs() as logs:
        result = await EVERYTHING.run(call(name, arguments), context)
    assert result.content
    assert len(result.content) <= 1000
    assert result.error != "crashed", logs
