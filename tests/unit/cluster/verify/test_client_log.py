"""A log is read as it was written, whatever became of who wrote it."""

import json
from dataclasses import replace
from typing import get_args

import pytest

from actors.core.events import Event, ToolCompleted
from actors.testing import FakeClock
from cluster.verify import (
    Answered,
    CancelAnswered,
    CancelSent,
    ClientLog,
    Closed,
    Deleted,
    Effects,
    ModelCalls,
    Opened,
    Record,
    Seen,
    Sent,
    Unanswered,
    WrongLog,
    digest,
    read_client_logs,
)
from cluster.verify.readers import wire

RECORDS = (
    Sent("r1", "né 漢字 🙂\n", "sess_1", "key", "b0d7", "steer", "anna", "messages"),
    Answered("r1", 202, "sess_1", "turn_1", "msg_1", 2, replayed=True, code="none"),
    Unanswered("r2", "ReadTimeout"),
    Opened("c1", "anna", "sess_1", 7, "turn_1"),
    Seen("c1", 8, "turn.started", "d1"),
    Closed("c1", ended=True, error="cut"),
    CancelSent("x1", "sess_1", "turn_1"),
    CancelAnswered("x1", 200, "cancelled"),
    Deleted("sess_2"),
    ModelCalls("turn_1", 3),
    Effects("sess_1", "line 7", 1, "turn_1"),
)


def test_every_kind_of_record_is_there():
    assert {type(record) for record in RECORDS} == set(get_args(get_args(Record)[0]))


def test_what_was_written_is_read(tmp_path):
    clock = FakeClock()
    with ClientLog(tmp_path / "log", clock) as log:
        for record in RECORDS:
            log.write(record)
            clock.advance(0.25)
        written = log.entries
    assert read_client_logs([tmp_path / "log"]) == tuple(written)
    assert [entry.at for entry in written] == [number * 0.25 for number in range(len(RECORDS))]
    assert written[0].wall == FakeClock().now()


def test_a_line_is_what_the_module_says(tmp_path):
    with ClientLog(tmp_path / "log", FakeClock()) as log:
        log.write(Deleted("sess_2"))
    wall = "2026-01-01T00:00:00.000000Z"
    line = {"kind": "deleted", "at": 0.0, "wall": wall, "session_id": "sess_2"}
    assert json.loads((tmp_path / "log").read_text()) == line


def test_each_record_is_in_the_file_at_once(tmp_path):
    """The client may be killed at any moment."""
    log = ClientLog(tmp_path / "log", FakeClock())
    log.write(RECORDS[0])
    assert len(read_client_logs([tmp_path / "log"])) == 1
    log.close()


def test_a_log_is_gone_on_with(tmp_path):
    for record in RECORDS[:2]:
        with ClientLog(tmp_path / "log", FakeClock()) as log:
            log.write(record)
    assert [entry.record for entry in read_client_logs([tmp_path / "log"])] == list(RECORDS[:2])


def test_a_last_line_that_broke_off_is_left_out(tmp_path):
    file = tmp_path / "log"
    with ClientLog(file, FakeClock()) as log:
        for record in RECORDS[:2]:
            log.write(record)
    whole = file.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        file.write_bytes(whole[:cut])
        assert [entry.record for entry in read_client_logs([file])] == [RECORDS[0]]


def test_line_separators_within_a_message_end_no_line(tmp_path):
    """U+2028 and U+0085 are ends of lines to Python and not to JSON."""
    spoken = Sent("r1", "one\u2028two\x85three\x0cfour\rfive")
    with ClientLog(tmp_path / "log", FakeClock()) as log:
        log.write(spoken)
    assert [entry.record for entry in read_client_logs([tmp_path / "log"])] == [spoken]


def test_records_of_a_newer_version_are_left_out(tmp_path):
    file = tmp_path / "log"
    with ClientLog(file, FakeClock()) as log:
        log.write(RECORDS[0])
    line = {**json.loads(file.read_text()), "weather": "fine"}
    newer = {"kind": "forked", "at": 1.0, "wall": "2026-01-01T00:00:00Z", "session_id": "sess_1"}
    file.write_text(f"{json.dumps(newer)}\n{json.dumps(line)}\n")
    assert [entry.record for entry in read_client_logs([file])] == [RECORDS[0]]


@pytest.mark.parametrize(
    "line", ["{", "[]", "7", '{"at": 1}', '{"kind": "seen", "at": 1, "wall": "2026-01-01", "seq": "x"}']
)
def test_what_is_no_record_is_named(tmp_path, line):
    file = tmp_path / "log"
    file.write_text(f"\n{line}\n")
    with pytest.raises(WrongLog, match=r"log, line 2, is no record of a client log"):
        read_client_logs([file])


def test_several_logs_are_read_in_their_order(tmp_path):
    for name, record in (("a", RECORDS[0]), ("b", RECORDS[1])):
        with ClientLog(tmp_path / name, FakeClock()) as log:
            log.write(record)
    assert [one.record for one in read_client_logs([tmp_path / "b", tmp_path / "a"])] == [RECORDS[1], RECORDS[0]]


def test_a_digest_does_not_depend_on_how_json_was_written():
    assert digest({"a": 1, "b": [1.5, "é"]}) == digest(json.loads('{ "b":[1.5,"\\u00e9"], "a":1 }'))
    assert digest({"a": 1}) != digest({"a": "1"})
    assert len(digest({})) == 64


def test_the_journals_digest_is_that_of_what_was_sent(good):
    """A client has parsed JSON; the checker has the event."""
    from serve_app.sse import event_frame

    odd = ToolCompleted(
        "call_1", "run_shell", "né 🙂", None, 5, {"ratio": 0.1, "big": 2**53, "none": None, "list": [1.0]}
    )
    events = (*good.events, replace(good.events[-1], body=odd))
    for event in events:
        assert isinstance(event, Event)
        sent = event_frame(event).decode().split("data: ")[1]
        assert digest(wire(event)) == digest(json.loads(sent)), event
