"""A run's folder is its owner's alone and leaves nothing but Ray's logs."""

import shutil
import stat
from pathlib import Path

import pytest

from cluster import run_dir


def test_only_its_owner_can_enter():
    folder = run_dir.make()
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(folder)


def test_removing_keeps_the_logs_of_the_last_run(home, tmp_path):
    for number in ("first", "second"):
        folder = tmp_path / "greenroom-x"
        session = run_dir.ray_dir(folder) / f"session_{number}"
        (session / "logs").mkdir(parents=True)
        (session / "logs" / f"{number}.log").touch()
        (run_dir.ray_dir(folder) / "session_latest").symlink_to(session)
        run_dir.remove(folder, home)
        assert not folder.exists()
    assert [log.name for log in run_dir.ray_logs(home).iterdir()] == ["second.log"]
    assert stat.S_IMODE(run_dir.ray_logs(home).stat().st_mode) == 0o700


def test_a_folder_that_is_gone_is_no_error(home):
    run_dir.remove(Path("/tmp/greenroom-that-never-was"), home)


def test_nothing_else_is_removed(home, tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        run_dir.remove(tmp_path, home)
    assert tmp_path.exists()
