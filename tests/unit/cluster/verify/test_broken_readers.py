"""What readers saw, against the journal: P4 from the client's side."""

from dataclasses import replace

import pytest

from cluster.verify import Closed, Opened, Seen, digest
from cluster.verify.readers import wire


@pytest.fixture
def see(good):
    """What a connection sees of these events, from a cursor on."""

    def see(seqs, *, after=0, turn_id=None, ended=False):
        by_number = {event.seq: event for event in good.events}
        return [
            Opened("c1", "anna", good.session_id, after, turn_id),
            *(Seen("c1", seq, by_number[seq].body.type, digest(wire(by_number[seq]))) for seq in seqs),
            Closed("c1", ended=ended),
        ]

    return see


@pytest.mark.parametrize(("after", "seqs"), [(0, []), (0, [1, 2, 3]), (3, [4, 5]), (60, [61]), (61, [])])
def test_what_comes_next_is_right(good, find, see, after, seqs):
    assert find(good, see(seqs, after=after)) == set()


@pytest.mark.parametrize(
    ("after", "seqs", "rule"),
    [
        (0, [2, 3], "missed"),
        (0, [1, 3], "missed"),
        (3, [5], "missed"),
        (0, [1, 2, 2], "seen_twice"),
        (3, [3, 4], "seen_twice"),
        (0, [1, 2, 1], "seen_twice"),
    ],
)
def test_a_gap_or_a_double(good, find, see, after, seqs, rule):
    assert find(good, see(seqs, after=after)) == {("P4", rule)}


@pytest.mark.parametrize("member", ["type", "digest"])
def test_another_event_under_the_number(good, find, see, member):
    log = see([1, 2, 3])
    log[2] = replace(log[2], **{member: "other"})
    assert find(good, log) == {("P4", "other_data")}


def test_an_event_that_was_shown_and_never_written(good, find, see):
    log = [*see([60, 61], after=59)[:-1], Seen("c1", 62, "turn.started", "x")]
    assert find(good, log) == {("P4", "seen_unwritten")}


def test_a_stream_of_one_turn(good, find, see):
    turn = [event.seq for event in good.events if event.turn_id == "turn_5"]
    assert turn != list(range(turn[0], turn[-1] + 1)), "another turn's events lie between"
    assert find(good, see(turn, after=turn[0] - 1, turn_id="turn_5", ended=True)) == set()
    assert find(good, see(turn[:3], after=turn[0] - 1, turn_id="turn_5")) == set(), "it was cut off"
    assert find(good, see([turn[0], *turn[2:]], turn_id="turn_5")) == {("P4", "missed")}
    assert find(good, see(turn[:-1], turn_id="turn_5", ended=True)) == {("P4", "ended_early")}


def test_a_stream_that_broke_off_with_an_error_may_end_early(good, find, see):
    turn = [event.seq for event in good.events if event.turn_id == "turn_5"]
    log = [*see(turn[:3], turn_id="turn_5")[:-1], Closed("c1", ended=True, error="session_lost")]
    assert find(good, log) == set()


def test_readers_of_a_trimmed_journal(trimmed, find, see):
    stub, following = trimmed.events[0], [event.seq for event in trimmed.events[1:]]
    summed_up = [Opened("c1", "anna", trimmed.session_id, 0), Seen("c1", stub.seq, stub.body.type, digest(wire(stub)))]
    assert find(trimmed, [*summed_up, *see(following)[1:]]) == set(), "from the beginning there is the summary"
    assert find(trimmed, see(range(1, 40))) == set(), "somebody read it before"
    assert find(trimmed, see(following)) == {("P4", "missed")}, "without the summary a reader misses something"
    assert find(trimmed, see(following, after=stub.seq)) == set()
