"""The docker daemon of this machine, by its SDK. Everything here blocks: it belongs on a thread, never on the loop.

No call is left to wait for ever: each has the client's deadline. Images are never pulled.
"""

import contextlib
import io
import os
import socket
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from docker import APIClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from .base import Missing
from .rootfs import CannotBuild

DEFAULT_HOST = "unix:///var/run/docker.sock"
_CONNECT_S = 5
_CALL_S = 30
_REPOSITORY = "greenroom-sandbox"
_START_IT = "apt-get install docker.io and start it, or set GREENROOM_SANDBOX_DOCKER_HOST to its socket"

_LIMITS = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota", "pids": "PidsLimit"}

Answer = TypeVar("Answer")


class EngineError(Exception):
    """The daemon cannot be asked, or refused; `missing` says why and what would mend it."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(f"{missing.what}: {missing.fix}")
        self.missing = missing


class ImageGone(EngineError):
    """The image of a container is not there any more."""


@dataclass(frozen=True, slots=True)
class Started:
    """A container that was started: its id, its first process as this machine numbers them, and the connection to
    its standard streams, on which the daemon puts frames round what comes out."""

    id: str
    pid: int
    streams: socket.socket


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the daemon says of itself: whether its containers' users are others outside, and which of a sandbox's
    limits it can keep; for each of the others, why not."""

    version: str
    remaps_users: bool
    limits: frozenset[str]
    missing: tuple[Missing, ...]


class DockerEngine:
    """A connection to the daemon behind a Unix socket. Raises EngineError, from every method."""

    def __init__(self, host: str = DEFAULT_HOST) -> None:
        self.host = host
        path = Path(host.removeprefix("unix://"))
        if not host.startswith("unix:///"):
            raise EngineError(Missing(f"a docker daemon on this machine; {host} is no Unix socket", _START_IT))
        if not path.is_socket():
            raise EngineError(Missing(f"a docker daemon at {host}", _START_IT))
        if not os.access(path, os.R_OK | os.W_OK):
            fix = "let the user into the group of the socket, which gives the rights of root on this machine"
            raise EngineError(Missing(f"the right to use {host}", fix))
        # Found out before anything long is asked: a daemon that hangs is told from one that works.
        # The SDK has no types of its own; what it returns is narrowed below.
        self._api: Any = self._asked("its version", lambda: APIClient(host, version="auto", timeout=_CONNECT_S))
        self._api.timeout = _CALL_S

    def close(self) -> None:
        self._api.close()

    def facts(self) -> EngineFacts:
        info: Mapping[str, Any] = self._asked("its facts", self._api.info)
        options = [str(option) for option in info.get("SecurityOptions") or ()]
        remaps = any(option.startswith(("name=userns", "name=rootless")) for option in options)
        limits = frozenset(name for name, member in _LIMITS.items() if info.get(member))
        fix = "mount the control group, or boot a kernel that has it"
        missing = tuple(Missing(f"control group for {name}", fix) for name in _LIMITS if name not in limits)
        return EngineFacts(str(info.get("ServerVersion", "?")), remaps, limits, missing)

    def start(self, image: str, command: Sequence[str], host_config: Mapping[str, Any], **options: Any) -> Started:
        """Create a container, attach to it, start it. What was made is removed where a later step fails."""
        container = self._asked("a container", lambda: self._create(image, command, host_config, options))
        try:
            streams = self._asked("a connection", lambda: self._attach(container))
            try:
                self._asked("a start", lambda: self._api.start(container))
                pid = int(self.inspect(container)["State"]["Pid"])
            except BaseException:
                streams.close()
                raise
        except BaseException:
            with contextlib.suppress(EngineError):
                self.remove(container)
            raise
        return Started(container, pid, streams)

    def _create(
        self, image: str, command: Sequence[str], host_config: Mapping[str, Any], options: Mapping[str, Any]
    ) -> str:
        # The SDK's own settings for the host part do not know of all that is set here.
        config = self._api.create_host_config()
        config.update(host_config)
        made = self._api.create_container(
            image,
            # As the entry point, so that an image's own is not run; and without its check of health.
            entrypoint=list(command),
            healthcheck={"test": ["NONE"]},
            stdin_open=True,
            host_config=config,
            **options,
        )
        return str(made["Id"])

    def _attach(self, container: str) -> socket.socket:
        stream = self._api.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        try:
            return socket.socket(fileno=os.dup(stream.fileno()))
        finally:
            stream.close()

    def inspect(self, container: str) -> Mapping[str, Any]:
        return self._asked("a look", lambda: self._api.inspect_container(container))

    def set_paused(self, container: str, *, paused: bool) -> None:
        """Idempotent."""
        change = self._api.pause if paused else self._api.unpause
        if bool(self.inspect(container)["State"]["Paused"]) is not paused:
            self._asked("a pause or its end", lambda: change(container))

    def remove(self, container: str) -> None:
        """Kill it and remove it. Idempotent, and nothing of it runs when this returns."""

        def remove() -> None:
            with contextlib.suppress(NotFound):
                try:
                    self._api.remove_container(container, force=True, v=True)
                except APIError as error:
                    # It has ended, and the daemon is removing it by itself.
                    if error.status_code != 409:
                        raise

        self._asked("a removal", remove)

    def containers(self, label: str) -> dict[str, str]:
        """Containers with this label, running or not: the label's value of each, by id."""
        found: list[dict[str, Any]] = self._asked(
            "a list", lambda: self._api.containers(all=True, filters={"label": label})
        )
        return {str(each["Id"]): str(each["Labels"].get(label, "")) for each in found}

    def image_id(self, name: str) -> str | None:
        """The id of an image that is here; None where it is not."""

        def look() -> str | None:
            try:
                return str(self._api.inspect_image(name)["Id"])
            except NotFound:
                return None

        return self._asked("a look at an image", look)

    def import_tree(self, archive: Path, tag: str) -> str:
        """Make an image of a tar file. Returns its name."""
        self._asked(
            "an import",
            lambda: self._api.import_image_from_file(str(archive), repository=_REPOSITORY, tag=tag),
        )
        return f"{_REPOSITORY}:{tag}"

    def add_files(self, image: str, files: Mapping[str, bytes], tag: str) -> str:
        """Make an image of another one with `files` in it, by their paths. Returns its name."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))

        def commit() -> None:
            draft = self._api.create_container(image, entrypoint=["true"], network_disabled=True)["Id"]
            try:
                self._api.put_archive(draft, "/", archive.getvalue())
                self._api.commit(draft, repository=_REPOSITORY, tag=tag)
            finally:
                self._api.remove_container(draft, force=True, v=True)

        self._asked(f"an image made of {image}", commit)
        return f"{_REPOSITORY}:{tag}"

    def drop_older(self, name: str, by_s: float) -> tuple[str, ...]:
        """Remove images of sandboxes that were made so much earlier than `name`; returns their names.

        One that a container is of stays.
        """
        found: list[dict[str, Any]] = self._asked("a list of images", lambda: self._api.images(name=_REPOSITORY))
        made = {str(tag): float(image["Created"]) for image in found for tag in image.get("RepoTags") or ()}
        old = [tag for tag, at in made.items() if tag != name and at < made.get(name, 0.0) - by_s]
        return tuple(tag for tag in old if self._drop(tag))

    def _drop(self, name: str) -> bool:
        def remove() -> bool:
            try:
                self._api.remove_image(name)
            except NotFound:
                return False
            except APIError as error:
                if error.status_code != 409:
                    raise
                return False
            return True

        return self._asked("a removal of an image", remove)

    def declared_volumes(self, image: str) -> list[str]:
        """Folders of which the image says that they lie on a volume, which no limit of ours would bound."""
        facts: Mapping[str, Any] = self._asked("a look at an image", lambda: self._api.inspect_image(image))
        config: Mapping[str, Any] = facts.get("Config") or {}
        volumes: Mapping[str, Any] = config.get("Volumes") or {}
        return sorted(volumes)

    def tag_name(self, tag: str) -> str:
        return f"{_REPOSITORY}:{tag}"

    def _asked(self, what: str, call: Callable[[], Answer]) -> Answer:
        """The one place where the SDK's errors become ours."""
        try:
            return call()
        except ImageNotFound as error:
            raise ImageGone(Missing("the image of sandboxes", "greenroom sandbox build")) from error
        except APIError as error:
            reason = str(error.explanation or error)[:300]
            raise EngineError(Missing(f"{what} of the docker daemon", f"it refused: {reason}")) from error
        except (DockerException, RequestException, OSError, ValueError) as error:
            fix = f"look at the daemon's log; it did not answer as it should: {str(error)[:300]}"
            raise EngineError(Missing(f"{what} of the docker daemon at {self.host}", fix)) from error


def cannot_build(error: EngineError) -> CannotBuild:
    return CannotBuild(error.missing.what, error.missing.fix)
