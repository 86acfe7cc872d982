"""Every event and preview survives JSON, and the flat object that clients get says all of it."""

import dataclasses
import json
import typing
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core import events
from actors.core.events import BODY, PREVIEW, TERMINAL, Event
from actors.core.messages import ToolCall

BODIES: tuple[Any, ...] = typing.get_args(typing.get_args(events.Body)[0])
PREVIEWS: tuple[Any, ...] = typing.get_args(typing.get_args(events.Preview)[0])
ENVELOPE = {"type", "seq", "session_id", "turn_id", "created_at"}

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=5,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)


def _known_types(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Instances whose free JSON members hold any JSON, whose text holds any text that can be encoded."""
    special: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT,
        str | None: st.none() | TEXT,
        dict[str, Any]: OBJECT,
        tuple[dict[str, Any], ...]: st.lists(OBJECT, max_size=2).map(tuple),
        tuple[ToolCall, ...]: st.lists(st.builds(ToolCall, TEXT, TEXT, TEXT), max_size=2).map(tuple),
        ToolCall: st.builds(ToolCall, TEXT, TEXT, TEXT),
        tuple[str, ...]: st.lists(TEXT, max_size=2).map(tuple),
        datetime: st.datetimes(timezones=st.just(UTC)),
    }
    if kind is not events.SessionCreated:
        special[events.SessionCreated] = _known_types(events.SessionCreated)
    hints = typing.get_type_hints(kind)
    members = {f.name: special.get(hints[f.name], st.from_type(hints[f.name])) for f in dataclasses.fields(kind)}
    del members["type"]
    return st.builds(kind, **members)


# Numbers as PostgreSQL and SQLite hold them in columns beside.
st.register_type_strategy(int, st.integers(0, 2**62))
st.register_type_strategy(events.Failure, st.builds(events.Failure, TEXT, TEXT, st.booleans()))


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_survives_json(kind: Any) -> None:
    @given(_known_types(kind))
    def round_trip(body: Any) -> None:
        again = BODY.validate_json(BODY.dump_json(body))
        assert again == body
        assert type(again) is kind

    round_trip()


@pytest.mark.parametrize("kind", PREVIEWS)
def test_a_preview_survives_json(kind: Any) -> None:
    @given(_known_types(kind))
    def round_trip(preview: Any) -> None:
        assert PREVIEW.validate_json(PREVIEW.dump_json(preview)) == preview

    round_trip()


@pytest.mark.parametrize("kind", BODIES)
def test_the_wire_form_is_flat_and_whole(kind: Any) -> None:
    @given(_known_types(kind))
    def flat(body: Any) -> None:
        wire = Event(7, "sess_1", None, datetime(2026, 1, 2, 3, 4, 5, 600000, tzinfo=UTC), body).wire()
        members = {field.name for field in dataclasses.fields(kind)}
        assert set(wire) == ENVELOPE | members
        assert (wire["seq"], wire["created_at"]) == (7, "2026-01-02T03:04:05.600000Z")
        json.dumps(wire)

    flat()


def test_no_member_hides_one_of_the_envelope() -> None:
    for kind in BODIES:
        assert {field.name for field in dataclasses.fields(kind)} & ENVELOPE == {"type"}


def test_types_are_named_once_as_domain_and_action() -> None:
    names = [kind.__dataclass_fields__["type"].default for kind in (*BODIES, *PREVIEWS)]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").replace(".", "", 1).isalpha() and name.count(".") == 1 for name in names)


def test_a_turn_ends_in_one_of_three_ways() -> None:
    assert {kind.__dataclass_fields__["type"].default for kind in TERMINAL} == {
        "turn.completed",
        "turn.failed",
        "turn.cancelled",
    }


def test_an_older_process_reads_a_newer_journal() -> None:
    body = BODY.validate_json('{"type":"turn.queued","message_id":"m","position":1,"added_later":true}')
    assert body == events.TurnQueued("m", 1)
