"""`run.json` says what runs, to its owner only, and is believed only while that process lives."""

import os
import stat

from cluster import run_state


def test_is_read_as_it_was_written(home, make_state):
    state = make_state()
    run_state.write(home, state)
    assert run_state.read(home) == state
    assert run_state.running(home) == state


def test_only_its_owner_can_read_it(home, make_state):
    before = os.umask(0)
    try:
        run_state.write(home, make_state())
    finally:
        os.umask(before)
    assert stat.S_IMODE(run_state.state_file(home).stat().st_mode) == 0o600


def test_a_pid_that_was_given_to_another_process_is_no_run(home, make_state):
    state = make_state()
    run_state.write(home, make_state(started=state.started - 1))
    assert run_state.read(home) is not None
    assert run_state.running(home) is None


def test_nothing_is_left_beside_it(home, make_state):
    for _ in range(3):
        run_state.write(home, make_state())
    assert [path.name for path in home.iterdir()] == ["run.json"]


def test_a_file_that_cannot_be_read_is_no_run(home):
    for content in ("", "{}", "[]", '{"pid": 1}', "\x00"):
        run_state.state_file(home).write_text(content)
        assert run_state.read(home) is None


def test_a_run_removes_its_own_file_only(home, make_state):
    run_state.write(home, make_state())
    run_state.remove(home, "of another run")
    assert run_state.read(home) is not None
    run_state.remove(home, make_state().run_id)
    assert not run_state.state_file(home).exists()
    run_state.remove(home, make_state().run_id)
