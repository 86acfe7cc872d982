"""What Greenroom asks of a sandbox: the Protocols and the values that cross them.

The boundary is the isolation that a backend reaches (`Level`), probed by running a canary and never
assumed from a binary's presence. Without isolation there is no sandbox: callers get
`SandboxUnavailable`, never a bare subprocess. What comes out of a sandbox is hostile: sizes are
capped on the host's side, and the verdict is the host's, not what the code inside says of itself.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol, Self, TypeAlias


class Level(StrEnum):
    """Kinds of isolation, weakest first. `NONE` runs nothing."""

    NONE = "none"
    LANDLOCK = "landlock"
    NAMESPACE = "namespace"
    CONTAINER = "container"
    GVISOR = "gvisor"
    VM = "vm"

    def reaches(self, required: "Level") -> bool:
        """Whether it is at least `required`. `NONE` never is."""
        levels = list(Level)
        return self is not Level.NONE and levels.index(self) >= levels.index(required)


@dataclass(frozen=True, slots=True)
class Missing:
    """Something a backend could not get here, and what would mend it."""

    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Capability:
    """What a probe found. `limits` names those that are enforced: memory, cpu, pids, disk, time, output; and `freeze`
    where a sandbox that nobody uses can be kept from the processor.

    `egress` names the domains that its sandboxes may reach; none is no network at all.
    """

    backend: str
    level: Level
    limits: frozenset[str] = frozenset()
    missing: tuple[Missing, ...] = ()
    egress: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings of one sandbox. The defaults are those of the project's security section."""

    memory_bytes: int = 512 * 1024 * 1024
    cpus: float = 0.5
    pids: int = 64
    workspace_bytes: int = 256 * 1024 * 1024
    file_bytes: int = 100 * 1024 * 1024
    output_bytes: int = 1024 * 1024
    open_files: int = 1024
    command_s: float = 300.0


Verdict: TypeAlias = Literal[
    "ok",
    "nonzero",
    "timeout",
    "oom",
    "pids",
    "disk",
    "output_limit",
    "cancelled",
    "sandbox_lost",
    "policy",
]
"""How a command ended, as the host saw it.

`oom`: the kernel ended a process of it for want of memory. `pids`, `disk`: it failed, and the kernel had refused it a
process, or a writable folder was full at its end. `policy`: it was not run, because the policy does not allow it.
"""
Variables: TypeAlias = Literal["new", "kept", "gone"]
"""Of the interpreter that lasts: it began with this call, it is that of an earlier one, or it ended with this call."""
OnOutput: TypeAlias = Callable[[str], None]
"""Called with output as it comes, decoded, on the event loop's thread. Must not block."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended. Output is decoded with replacement and cut to the limit, keeping head and tail.

    `output_bytes` counts all that it printed. `cpu_s` and `peak_memory_bytes` are the kernel's for the whole sandbox
    while the command ran, files in memory and the agent included; None where nobody counts them. `variables` is of
    Python with `keep` only.
    """

    verdict: Verdict
    exit_code: int | None
    output: str
    truncated: bool = False
    wall_s: float = 0.0
    output_bytes: int = 0
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    variables: Variables | None = None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A regular file or a folder in the workspace; `path` is relative to it."""

    path: str
    size_bytes: int
    is_dir: bool = False


class Listing(tuple[FileInfo, ...]):
    """Files and folders. `cut` says that there are more than fit into one answer, however many were asked for."""

    cut: bool

    def __new__(cls, entries: Iterable[FileInfo] = (), *, cut: bool = False) -> Self:
        listing = super().__new__(cls, entries)
        listing.cut = cut
        return listing


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Part of a file: `data` from byte `offset` on, of `size_bytes` in all."""

    data: bytes
    offset: int
    size_bytes: int


FileKind: TypeAlias = Literal["file", "folder", "missing", "special"]


@dataclass(frozen=True, slots=True)
class FileStat:
    """Where a path leads with every link followed, relative to the workspace, and what is there."""

    path: str
    kind: FileKind
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What was copied: regular files and their bytes.

    Between two sandboxes of a machine files go by their contents; links, modes and empty folders stay behind.
    """

    files: int = 0
    size_bytes: int = 0


class WorkspaceError(Exception):
    """A file operation that cannot be done: no such file, a folder, too large, outside the workspace.

    This is the tool's answer to the model, and not a failure of Greenroom.
    """


class PolicyRefused(WorkspaceError):
    """A file operation that could be done and that the policy does not allow."""


class Sandbox(Protocol):
    """One isolated place with a workspace, for one session, never reused for another.

    Calls raise `SandboxUnavailable` when the sandbox is gone. Cancelling a call kills what it started.
    """

    async def shell(self, command: str, *, timeout_s: float, on_output: OnOutput | None = None) -> ExecResult:
        """Run `command` with `sh -c` in the workspace; standard input is empty."""
        ...

    async def python(
        self, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        """Run a Python program in the workspace, in a fresh interpreter.

        With `keep` in one that lasts, with the variables of earlier calls. Between calls it stands still. Its own
        end is no other command's: when it exits, crashes or is stopped, the next call with `keep` gets a new one.
        """
        ...

    async def read(self, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        """Raises `WorkspaceError`."""
        ...

    async def stat(self, path: str) -> FileStat:
        """What a path leads to. Raises `WorkspaceError` for one that leads out of the workspace."""
        ...

    async def write(self, path: str, data: bytes) -> None:
        """Write a file and the folders above it. Raises `WorkspaceError`."""
        ...

    async def list(self, path: str = ".", *, max_entries: int = 1000) -> Listing:
        """Everything below `path`, depth first, as far as 3 MiB of names go. Raises `WorkspaceError`."""
        ...

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, or an empty folder; with `recursive` a folder and all that is in it.

        A link is removed and not what it leads to. Raises `WorkspaceError`.
        """
        ...

    def assign(self, session_id: str) -> None:
        """Say whose it is, once, before its first use: what it asks of the network is judged and audited as theirs."""
        ...

    def pack(self, *, max_bytes: int) -> AsyncGenerator[bytes]:
        """The workspace as a stream that `unpack` of another sandbox takes. No command runs meanwhile.

        Regular files, folders, and links that stay inside, with modes and times. It is opaque: what is in it was
        said by the sandbox. Raises `WorkspaceError` when it is larger than `max_bytes` or cannot be read whole.
        Close the generator when it is left early.
        """
        ...

    async def unpack(self, chunks: AsyncIterable[bytes]) -> CopyResult:
        """Fill the workspace of a new sandbox, and say with what.

        Raises `WorkspaceError`, and then it is filled in part: destroy it. A stream that was made to do harm gets no
        further than the sandbox's own workspace and its limits.
        """
        ...

    async def pause(self) -> None:
        """Keep all that is in it from the processor, until `resume`; it answers no call meanwhile. Idempotent.

        Does nothing where the backend cannot (`freeze` in `Capability.limits`). Raises `SandboxUnavailable`.
        """
        ...

    async def resume(self) -> None:
        """Let it go on where `pause` stopped it. Idempotent. Raises `SandboxUnavailable` when that cannot be done."""
        ...

    async def destroy(self) -> None:
        """Kill all that runs in it, paused or not, and drop the workspace. Idempotent."""
        ...


class SandboxBackend(Protocol):
    """A way to make sandboxes on this machine."""

    async def probe(self) -> Capability:
        """Run a canary and say what isolation was reached. Never raises."""
        ...

    async def build(self) -> str:
        """Make what all its sandboxes are made from, where that is not there yet, and say where it is.

        Raises `SandboxUnavailable`.
        """
        ...

    async def create(self, limits: Limits) -> Sandbox:
        """A ready sandbox. Raises `SandboxUnavailable`."""
        ...

    async def aclose(self) -> None:
        """Destroy all that this backend still holds."""
        ...


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What a pool can say of itself."""

    capability: Capability
    leased: int = 0
    warm: int = 0
    waiting: int = 0
    """Sessions that wait until a place for a sandbox becomes free."""


class Sandboxes(Protocol):
    """What tools see: the sandbox of a session, by the session's id, wherever it runs.

    A session's first call leases a sandbox; it keeps it until `release` or until it was idle too long.
    All calls raise `SandboxUnavailable` when there is no isolation here.
    """

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult: ...

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult: ...

    async def read(self, session_id: str, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice: ...

    async def stat(self, session_id: str, path: str) -> FileStat: ...

    async def write(self, session_id: str, path: str, data: bytes) -> None: ...

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> Listing: ...

    async def remove(self, session_id: str, path: str, *, recursive: bool = False) -> None: ...

    async def holds(self, session_id: str) -> bool:
        """The session has a sandbox. Makes none."""
        ...

    async def copy(self, source: str, target: str) -> CopyResult:
        """Copy the workspace of the session `source` into the new sandbox of the session `target`.

        Nothing is copied, and no sandbox made, when `source` has none. Raises `WorkspaceError` when there
        are more files than can be copied.
        """
        ...

    async def interrupt(self, session_id: str) -> None:
        """Kill the commands that run in the session's sandbox, or wait to, whoever asked for them; if it has one.

        They have ended with the verdict `cancelled` when this returns. The workspace stays, and file operations
        that are under way end by themselves.
        """
        ...

    async def release(self, session_id: str) -> None:
        """Destroy the session's sandbox, if it has one."""
        ...

    async def status(self) -> SandboxStatus: ...


class LeasedSandboxes(Sandboxes, Protocol):
    """Those of one machine. Calls in a block of `fence.bound` may be refused with `LeaseEnded`."""

    async def lease(self, session_id: str) -> int:
        """Make sure that the session has a sandbox; the number of its lease. Waits as other first calls do."""
        ...


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Settings of a pool: the limits of each sandbox, how many stay warm and may be leased, how long a lease lasts.

    A sandbox is paused when nobody used it for `freeze_s` (0: never). When every place is taken, one that was idle for
    `spare_s` makes room for a session that waits.
    """

    limits: Limits = field(default_factory=Limits)
    warm: int = 1
    idle_s: float = 900.0
    max_lease_s: float = 86_400.0
    freeze_s: float = 5.0
    max_leased: int = 64
    max_waiting: int = 256
    wait_s: float = 30.0
    spare_s: float = 10.0
