"""Journals of other versions are read, and what nobody can read is said."""

import json
from typing import Any

from actors.core.events import BODY, TurnCompleted, UsageUpdated
from cluster.verify import Unrecognised
from cluster.verify.stored_bodies import read_body


def stored(**members: Any) -> bytes:
    return json.dumps(members).encode()


def test_every_body_is_read_as_it_was_written(good):
    for event in good.events:
        assert read_body(event.body.type, BODY.dump_json(event.body)) == event.body


def test_a_type_that_nobody_knows():
    body = read_body("subagent.started", stored(type="subagent.started", agent="scout"))
    assert body == Unrecognised("subagent.started", {"agent": "scout"})


def test_a_member_that_nobody_knows_is_left_out():
    completed = stored(type="turn.completed", stop_reason="end_turn", steps=1, spent={}, mood="fine")
    assert isinstance(read_body("turn.completed", completed), TurnCompleted)


def test_a_word_that_nobody_knows_does_not_hide_the_event():
    """The turn has ended, for whatever reason."""
    body = read_body("turn.completed", stored(type="turn.completed", stop_reason="bored", steps=2, spent={}))
    assert isinstance(body, TurnCompleted)
    assert (body.stop_reason, body.steps) == ("bored", 2)


def test_a_word_within_a_body_of_values():
    given = stored(type="usage.updated", attempt_id="a", model="m", spent={}, session={}, cost_source="astrology")
    body = read_body("usage.updated", given)
    assert isinstance(body, UsageUpdated)
    assert body.session.cost_micros == 0


def test_what_nobody_can_read_is_damage():
    for payload in (b"", b"{", b"\xff\xfe", b"[]", b"null", stored(type="turn.started"), stored(steps="many")):
        body = read_body("turn.started", payload)
        assert isinstance(body, Unrecognised)
        assert body.damage
    wrong = read_body("turn.completed", stored(type="turn.completed", stop_reason="end_turn", steps=[], spent={}))
    assert isinstance(wrong, Unrecognised)
    assert wrong.damage == "its 'steps' is []"
