"""Check the lock files: pinned with hashes, no address of an index, and in step with pyproject.toml."""  # noqa: INP001 - a script

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ADDRESS = re.compile(r"https?://|file://|--(?:extra-)?index-url|--find-links|(?<!\S)-[if] ")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*])?==(?P<version>[^\s;\\]+)(?P<rest>.*)$")


def pins(lock: Path) -> dict[str, set[str]]:
    """The versions of each package; more than one where they depend on the platform."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if (match := PIN.match(line)) is not None:
            found.setdefault(normal(match["name"]), set()).add(match["version"])
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def faults(lock: Path, wanted: list[str]) -> Iterator[str]:
    text = lock.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        if ADDRESS.search(line):
            yield f"{lock}:{number}: an address: {line.strip()}"
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n?", "", text).strip())
    yield from (f"{lock}: not pinned: {entry.split()[0]}" for entry in entries if not PIN.match(entry.splitlines()[0]))
    yield from (f"{lock}: no hash: {entry.split()[0]}" for entry in entries if "--hash=sha256:" not in entry)
    pinned = pins(lock)
    for requirement in map(Requirement, wanted):
        versions = pinned.get(normal(requirement.name), set())
        if not versions:
            yield f"{lock}: {requirement.name} is missing"
        for version in versions:
            if not requirement.specifier.contains(version, prereleases=True):
                yield f"{lock}: {requirement.name} is {version}, pyproject.toml asks for {requirement.specifier}"


def main() -> int:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    runtime = [*project["dependencies"], *extras["build"]]
    lock, dev_lock = Path("requirements.lock"), Path("requirements-dev.lock")
    found = [*faults(lock, runtime), *faults(dev_lock, [*runtime, *extras["dev"]])]
    developed = pins(dev_lock)
    apart = [name for name, versions in pins(lock).items() if developed.get(name) != versions]
    found += [f"{dev_lock}: {name} is not as in {lock}" for name in apart]
    if found:
        sys.stderr.write("\n".join([*found, "", "Mend it with: make lock", ""]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
