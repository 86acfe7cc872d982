"""Tool calls from fragments, as servers really send them."""

import pytest

from actors.core.messages import ToolCall
from actors.llm.tool_calls import IncompleteToolCall, ToolCallAssembler


def fragment(arguments=None, *, index=None, id=None, name=None) -> dict:
    made: dict = {"function": {}}
    if index is not None:
        made["index"] = index
    if id is not None:
        made["id"] = id
    if name is not None:
        made["function"]["name"] = name
    if arguments is not None:
        made["function"]["arguments"] = arguments
    return made


A = ToolCall("a", "f", '{"x":1}')
B = ToolCall("b", "g", '{"y":2}')


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        pytest.param(
            [fragment("", index=0, id="a", name="f"), fragment('{"x"', index=0), fragment(":1}", index=0)],
            [A],
            id="as documented",
        ),
        pytest.param(
            [
                fragment('{"x":', index=0, id="a", name="f"),
                fragment('{"y":', index=1, id="b", name="g"),
                fragment("2}", index=1),
                fragment("1}", index=0),
            ],
            [A, B],
            id="shuffled indexes",
        ),
        pytest.param(
            [
                fragment('{"x":', index=0, id="a", name="f"),
                fragment("1}", index=0),
                fragment('{"y":', index=0, id="b", name="g"),
                fragment("2}", index=0),
            ],
            [A, B],
            id="a new id on a used index begins a new call",
        ),
        pytest.param(
            [
                fragment('{"x":', index=0, id="a", name="f"),
                fragment('{"y":', index=1, id="b", name="g"),
                fragment("1}", index=5, id="a"),
                fragment("2}", index=9, id="b"),
            ],
            [A, B],
            id="a known id decides whatever the index",
        ),
        pytest.param(
            [
                fragment('{"x":', id="a", name="f"),
                fragment("1}"),
                fragment('{"y":', id="b", name="g"),
                fragment("2}"),
            ],
            [A, B],
            id="missing indexes: fragments go to the open call",
        ),
        pytest.param(
            [
                fragment('{"x":1}', index=0, id="a", name="f"),
                fragment('{"y":', id="b", name="g"),
                fragment("2}"),
            ],
            [A, B],
            id="a missing index is not 0",
        ),
        pytest.param(
            [fragment('{"x":1}', name="f"), fragment('{"y":2}', name="g")],
            [ToolCall("call_1", "f", '{"x":1}'), ToolCall("call_2", "g", '{"y":2}')],
            id="whole calls with neither id nor index",
        ),
        pytest.param(
            [fragment("", index=0, name="f"), fragment('{"x":1}', index=0, id="a")], [A], id="the id comes later"
        ),
        pytest.param(
            [fragment('{"x":', index=0, id="a", name="f"), fragment("1}", index=0, id="a", name="f")],
            [A],
            id="id and name repeated in every fragment",
        ),
        pytest.param([fragment("", index=0, id="a", name="f")], [ToolCall("a", "f", "{}")], id="empty arguments"),
        pytest.param([fragment(index=0, id="a", name="f")], [ToolCall("a", "f", "{}")], id="no arguments"),
        pytest.param(
            [fragment({"x": 1}, index=0, id="a", name="f")], [ToolCall("a", "f", '{"x": 1}')], id="an object itself"
        ),
    ],
)
def test_fragments_become_calls(fragments, calls):
    assembler = ToolCallAssembler()
    for one in fragments:
        assembler.feed(one)
    assert assembler.finish() == tuple(calls)


@pytest.mark.parametrize(
    "fragments",
    [
        [fragment('{"x":', index=0, id="a", name="f")],
        [fragment('{"x":1}{"y":2}', index=0, id="a", name="f")],
        [fragment("[1]", index=0, id="a", name="f")],
        [fragment("{}", index=0, id="a")],
        [{}],
    ],
)
def test_what_is_no_whole_call_is_refused(fragments):
    assembler = ToolCallAssembler()
    for one in fragments:
        assembler.feed(one)
    with pytest.raises(IncompleteToolCall):
        assembler.finish()
