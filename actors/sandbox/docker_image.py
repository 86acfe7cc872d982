"""The image of docker's sandboxes: the root filesystem of this machine's other sandboxes, imported under its hash.

No registry is asked. An image of the user's own gets the agent put into it, and a name by both their hashes.
"""

import hashlib
import io
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from .docker_engine import DockerEngine, EngineError
from .inventory import AGENT_FOLDER
from .rootfs import CannotBuild, RootFs, ensure_rootfs

_log = structlog.get_logger("greenroom.sandbox")

_FORMAT = "1"
_AGENT_PACKAGE = f"{AGENT_FOLDER}/_greenroom"
_MOUNT_POINTS = ("workspace", "tmp", "proc", "sys", "dev")
_TAG_CHARACTERS = 16
_UNUSED_S = 30 * 86400


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the daemon has: its name, and Python as it is called inside. `hidden` are files of this machine
    that must not be seen in it; `is_own` tells of a user's image, which may hold what ours does not."""

    name: str
    python: str
    hidden: tuple[str, ...]
    is_own: bool = False


def ensure_image(engine: DockerEngine, cache: Path) -> Image:
    """The image of this machine's tree, imported if need be: seconds the first time, then milliseconds.

    Blocks. Raises CannotBuild and EngineError.
    """
    rootfs = ensure_rootfs(cache)
    tag = f"{_FORMAT}-{rootfs.root.parent.name.removeprefix('rootfs-')}"
    image = Image(engine.tag_name(tag), rootfs.python, (str(rootfs.root), str(cache)))
    if engine.image_id(image.name) is None:
        with tempfile.NamedTemporaryFile(dir=cache, prefix=".image-", suffix=".tar") as file:
            _pack(rootfs, file)
            file.flush()
            engine.import_tree(Path(file.name), tag)
    return image


def ensure_own_image(engine: DockerEngine, name: str) -> Image:
    """The user's image `name` with the agent in it. It must be here, have `python3`, and declare no volumes.

    Blocks. Raises CannotBuild and EngineError.
    """
    base = engine.image_id(name)
    if base is None:
        raise CannotBuild(f"the image {name}", f"bring it here, as nothing is pulled: docker pull {name}")
    if volumes := engine.declared_volumes(name):
        what = f"an image without volumes; {name} declares {', '.join(volumes)}"
        raise CannotBuild(what, "build it without VOLUME: what lies there has no limit")
    agent = {f"{_AGENT_PACKAGE}/{path.name}": path.read_bytes() for path in _agent_files()}
    digest = hashlib.sha256(_FORMAT.encode() + base.encode())
    for path, data in agent.items():
        digest.update(path.encode() + b"\0" + data)
    tag = f"own-{digest.hexdigest()[:_TAG_CHARACTERS]}"
    if engine.image_id(engine.tag_name(tag)) is None:
        engine.add_files(base, agent, tag)
    return Image(engine.tag_name(tag), "python3", (), is_own=True)


def drop_old_images(engine: DockerEngine, image: Image) -> None:
    """Remove images that earlier versions have left: those made a month before this one, and in no use.

    Blocks. What the daemon refuses stays.
    """
    with suppress(EngineError):
        for name in engine.drop_older(image.name, _UNUSED_S):
            _log.info("old image removed", image=name)


def _agent_files() -> list[Path]:
    return sorted(Path(__file__).with_name("inside").glob("*.py"))


def _pack(rootfs: RootFs, file: IO[bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in _MOUNT_POINTS:
            _add_folder(tar, folder)
        for name in ("bin", "lib", "lib64"):
            if (rootfs.root / "usr" / name).is_dir():
                link = tarfile.TarInfo(name)
                link.type, link.linkname, link.mode = tarfile.SYMTYPE, f"usr/{name}", 0o777
                tar.addfile(link)
        tar.add(rootfs.root, arcname=".", filter=_of_root)


def _add_folder(tar: tarfile.TarFile, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(member, io.BytesIO())


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    # Whole seconds, as compiled modules remember the time of their source.
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = int(member.mtime)
    return member
