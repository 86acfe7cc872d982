"""The folder of one run in /tmp: Ray's session, HAProxy's files. Gone when the run ends, but for Ray's logs."""

import shutil
import tempfile
from pathlib import Path

_PREFIX = "greenroom-"


def make() -> Path:
    """A new folder that only this user can enter.

    In /tmp and not in the home folder, because Ray and HAProxy put sockets 70 characters below it, and
    the path of a socket ends at 97.
    """
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))


def ray_dir(run_dir: Path) -> Path:
    return run_dir / "ray"


def ray_logs(home: Path) -> Path:
    """Where Ray's logs of the last run are kept."""
    return home / "logs" / "ray"


def remove(run_dir: Path, home: Path) -> None:
    """Keep Ray's logs in the home folder, in place of those of the run before, and drop the rest."""
    if not run_dir.name.startswith(_PREFIX):
        raise ValueError(f"{run_dir} is not the folder of a run")
    logs = ray_dir(run_dir) / "session_latest" / "logs"
    if logs.is_dir():
        kept = ray_logs(home)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(logs.resolve(), kept, ignore_dangling_symlinks=True)
        kept.chmod(0o700)  # Ray lets everybody in
    shutil.rmtree(run_dir, ignore_errors=True)
