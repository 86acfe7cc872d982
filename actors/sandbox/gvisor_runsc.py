"""The `runsc` of this machine: where it is, and on which of its platforms it really runs a program here.

A platform is how gVisor gets hold of a program's system calls. Which of them work is a matter of the build, the kernel
and the machine, and no version number tells it: so each is tried, for a bounded time, the fastest first.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .canary import diagnose
from .gvisor_sentry import Sentry
from .rootfs import CannotBuild

PLATFORMS = ("systrap", "kvm", "ptrace")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TRIAL_S = 10.0
_VERSION_S = 10.0
_GET = "apt-get install runsc (Debian, Ubuntu), or put a release of gVisor into /usr/local/bin"


_chosen: dict[tuple[Path, int], str] = {}


@dataclass(frozen=True, slots=True)
class Runsc:
    """The program, what it calls itself, and the platform on which it works here."""

    program: Path
    platform: str


def find_runsc() -> Path:
    """Raises CannotBuild."""
    found = shutil.which("runsc", path=_PATH)
    if found is None:
        raise CannotBuild("runsc, the program of gVisor", _GET)
    return Path(found)


def version() -> str:
    """What `runsc` calls itself, and where it is. Blocks for a moment. Raises CannotBuild."""
    runsc = find_runsc()
    try:
        answer = subprocess.run(
            [str(runsc), "--version"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_VERSION_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuild(f"a runsc that runs: {error}", _GET) from error
    first, *_ = answer.stdout.splitlines() or ["without a version"]
    return f"{first.removeprefix('runsc version ').removeprefix('release-')} at {runsc}"


def choose_platform(runsc: Path, start: Callable[[str], Sentry]) -> str:
    """The first platform on which `start` gives a program that ends well in time. Blocks, for seconds at the worst.

    What was found holds for this process, until `runsc` is another. Raises CannotBuild, and OSError from `start`.
    """
    build = (runsc, runsc.stat().st_mtime_ns)
    if build not in _chosen:
        _chosen[build] = _first_that_works(start)
    return _chosen[build]


def _first_that_works(start: Callable[[str], Sentry]) -> str:
    refusals: list[str] = []
    for platform in PLATFORMS:
        sentry = start(platform)
        try:
            code = sentry.wait(_TRIAL_S)
            if code == 0:
                return platform
            words = sentry.message()
        finally:
            sentry.end()
        refusals.append(words or (f"no end within {_TRIAL_S:g} s" if code is None else f"exit code {code}"))
    raise _refused(refusals)


def _refused(refusals: list[str]) -> CannotBuild:
    # The last platform needs the least, so what it lacks is what the machine lacks.
    known = diagnose(refusals[-1])
    if "not defined" in refusals[-1]:
        return CannotBuild("a newer runsc", f"{_GET}; this one says: {_last_line(refusals[-1])}")
    if known.what != diagnose("").what:
        return CannotBuild(known.what, known.fix)
    said = "; ".join(f"{platform}: {_last_line(words)}" for platform, words in zip(PLATFORMS, refusals, strict=True))
    return CannotBuild("a platform on which gVisor works here", f"a newer runsc or another kernel ({said})")


def _last_line(words: str) -> str:
    return words.splitlines()[-1][:200]
