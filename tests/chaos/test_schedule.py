"""The order of faults, and what is counted afterwards: no process is started."""

import json
import random
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from . import messages, schedule
from .journal import TurnEvent, gaps, percentile, statuses
from .run import parsed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_kind_comes_once_before_any_comes_again(database: str) -> None:
    kinds = schedule.kinds(database)
    steps = list(islice(schedule.steps(7, kinds), 2 * len(kinds)))
    first, second = steps[: len(kinds)], steps[len(kinds) :]
    assert {step.kind for step in first} == {step.kind for step in second} == set(kinds)
    assert [step.kind for step in first] != [step.kind for step in second]


def test_the_same_seed_gives_the_same_faults() -> None:
    kinds = schedule.kinds("postgresql")
    once, again, other = (list(islice(schedule.steps(seed, kinds), 50)) for seed in (7, 7, 8))
    assert once == again != other


def test_what_stands_still_does_so_for_longer_than_any_deadline() -> None:
    stops = [step for step in islice(schedule.steps(1, schedule.kinds("sqlite")), 100) if step.kind.startswith("stop")]
    assert stops
    assert {step.hold_s for step in stops} == {schedule.STOPPED_S}


def test_only_a_server_can_be_restarted() -> None:
    assert set(schedule.kinds("postgresql")) - set(schedule.kinds("sqlite")) == set(schedule.POSTGRESQL)


def test_faults_are_chosen_by_name_and_others_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(["--faults", "kill gcs,two owners"]).faults == ("kill gcs", "two owners")
    with pytest.raises(SystemExit):
        parsed(["--faults", "restart postgresql", "--database", "sqlite"])
    assert "there is no fault 'restart postgresql' on sqlite" in capsys.readouterr().err


def test_a_message_is_a_directive_with_its_tag() -> None:
    dice = random.Random(1)
    for kind in messages.KINDS:
        said = kind("u1-t3", dice)
        assert said.startswith('{"replies"')
        assert json.loads(said)["tag"] == "u1-t3"


def test_an_effect_that_happened_twice_is_seen_in_any_showing() -> None:
    # The file began anew when its sandbox was lost.
    shown = ["fx-a\nfx-b\n", "fx-a\nfx-b\nfx-b\n", "fx-c\n", "Stopped before it finished: fine."]
    assert messages.effects(shown) == {"fx-a": 1, "fx-b": 2, "fx-c": 1}


def turn(name: str, *events: tuple[str, float]) -> list[TurnEvent]:
    return [TurnEvent(name, kind, NOW + timedelta(seconds=seconds)) for kind, seconds in events]


def test_a_gap_is_from_the_fault_to_the_next_event_of_turns_that_ran() -> None:
    events = [
        *turn("taken over", ("message.accepted", 0), ("turn.started", 0), ("turn.recovering", 7)),
        *turn("went on", ("message.accepted", 1), ("turn.started", 2), ("message.completed", 5.5)),
        *turn("over", ("message.accepted", 0), ("turn.started", 1), ("turn.completed", 4)),
        *turn("waiting", ("message.accepted", 3), ("turn.started", 6)),
        *turn("later", ("message.accepted", 8), ("turn.started", 8)),
    ]

    found = gaps(events, [("kill gcs", NOW + timedelta(seconds=5))])

    assert [(gap.seconds, gap.recovered) for gap in found] == [(2.0, True), (0.5, False)]
    assert statuses(events) == {"accepted": 5, "completed": 1}


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (50.0, 99.0, 100.0)
    assert (percentile([3.0], 0.5), percentile([], 0.5)) == (3.0, None)
