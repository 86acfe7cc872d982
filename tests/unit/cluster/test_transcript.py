"""A turn on a terminal shows everything; in a pipe the answer alone comes out."""

import io
from typing import Any

import pytest
from rich.console import Console

from cluster.transcript import Transcript
from serve_app.calls import Item

SPENT = {
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 0, "reasoning_tokens": 0},
    "cost_micros": 1500,
    "cost_known": True,
}


def item(kind: str, *, seq: int | None = 1, **data: Any) -> Item:
    return Item(kind, seq, {"type": kind, "turn_id": "turn_1", **data})


def delta(text: str, offset: int) -> Item:
    return item("message.delta", seq=None, message_id="msg_1", offset=offset, text=text)


TURN = [
    item("message.accepted", content="hello"),
    delta("Let me ", 0),
    delta("see.", 7),
    item("message.completed", message_id="msg_1", content="Let me see."),
    item("tool.requested", call={"id": "call_1", "name": "run_python", "arguments": '{"code": "a = 1\\nprint(a)"}'}),
    item("tool.progress", seq=None, tool_call_id="call_1", offset=0, text="1\n"),
    item("tool.completed", tool_call_id="call_1", name="run_python", content="1\n", error=None, duration_ms=40),
    item("message.completed", message_id="msg_2", content="It is 1."),
    item("turn.completed", stop_reason="end_turn", steps=2, spent=SPENT),
]


def shown(items: list[Item], *, terminal: bool) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    transcript = Transcript(
        Console(file=out, force_terminal=terminal, width=80, color_system=None, no_color=True),
        Console(file=err, width=80),
    )
    for one in items:
        transcript.show(one)
    return out.getvalue(), err.getvalue()


def test_a_pipe_gets_the_answer_alone():
    out, err = shown(TURN, terminal=False)
    assert out == "Let me see.\nIt is 1.\n"
    for part in ("run_python", "print(a)", "  1", "✓", "$0.001500", "10 + 5 tokens"):
        assert part in err


def test_a_terminal_gets_it_all_in_order():
    out, err = shown(TURN, terminal=True)
    assert err == ""
    places = [out.index(part) for part in ("Let me see.", "▸ run_python", "print(a)", "✓", "It is 1.", "$0.001500")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (item("turn.failed", error={"message": "the model is away"}, steps=1, spent=SPENT), "the model is away"),
        (item("turn.cancelled", stopped=["model"], steps=1, spent=SPENT), "cancelled"),
        (item("turn.completed", stop_reason="max_steps", steps=9, spent=SPENT), "stopped: max_steps"),
        (
            item("turn.completed", stop_reason="end_turn", steps=1, spent={**SPENT, "cost_known": False}),
            "cost unknown",
        ),
        (
            item("tool.completed", tool_call_id="c", name="x", content="boom", error="timeout", duration_ms=1),
            "✗ timeout",
        ),
        (item("tool.outcome_unknown", tool_call_id="c", name="x"), "not run again"),
        (item("turn.recovering", recoveries=1), "another one goes on"),
    ],
)
def test_endings(last, said):
    assert said in shown([last], terminal=False)[1]


def test_an_answer_that_was_started_over_is_shown_whole():
    items = [delta("Hello wor", 0), delta("Bye", 0), item("message.completed", message_id="msg_1", content="Bye now")]
    assert shown(items, terminal=False)[0].endswith("Bye now\n")


@pytest.mark.parametrize("arguments", ["", "{}", "not json", "[1]", '{"path": "a.txt", "count": 3}'])
def test_any_arguments_can_be_shown(arguments):
    _, err = shown([item("tool.requested", call={"id": "c", "name": "x", "arguments": arguments})], terminal=False)
    assert err.startswith("▸ x")


def test_long_output_is_cut_and_says_so():
    content = "\n".join(map(str, range(1000)))
    done = item("tool.completed", tool_call_id="c", name="x", content=content, error=None, duration_ms=1)
    _, err = shown([done], terminal=False)
    assert "980 lines more" in err
    assert len(err.splitlines()) < 30
