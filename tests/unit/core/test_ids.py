"""Ids: unique, and in the order of their birth."""

import re
import typing
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.ids import Kind, uuid7_ids
from actors.testing import FakeClock


@pytest.mark.parametrize("kind", typing.get_args(Kind))
def test_an_id_is_its_kind_and_a_uuid_of_version_7(kind: Kind) -> None:
    clock = FakeClock(datetime(2026, 5, 6, 7, 8, 9, 123000, tzinfo=UTC))
    name, _, value = uuid7_ids(clock)(kind).partition("_")
    parsed = uuid.UUID(value)
    assert name == kind
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == int(clock.now().timestamp() * 1000)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", f"{kind}_{value}"), "not an id that the API takes"


@given(st.lists(st.floats(0.001, 1e6), min_size=2, max_size=20))
def test_ids_sort_by_time(steps: list[float]) -> None:
    clock = FakeClock()
    new_id = uuid7_ids(clock)
    made: list[str] = []
    for step in steps:
        made.append(new_id("msg"))
        clock.advance(step)
    assert made == sorted(made)


def test_ids_of_one_moment_differ() -> None:
    new_id = uuid7_ids(FakeClock())
    made = [new_id("turn") for _ in range(10_000)]
    assert len(set(made)) == len(made)
    randoms = [uuid.UUID(value.removeprefix("turn_")).int for value in made]
    for bit in [*range(62), *range(64, 76)]:  # all 74 of them
        ones = sum(value >> bit & 1 for value in randoms)
        assert 4_500 < ones < 5_500, f"bit {bit} is not random"
