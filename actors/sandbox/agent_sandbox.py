"""A sandbox that is driven through an agent: calls become frames, and the host judges how a command ended."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Protocol, TypeAlias, TypeVar, cast

from ..core.clock import Clock
from ..core.errors import SandboxUnavailable
from .base import (
    CopyResult,
    ExecResult,
    FileInfo,
    FileKind,
    FileSlice,
    FileStat,
    Limits,
    Listing,
    OnOutput,
    Variables,
    Verdict,
    WorkspaceError,
)
from .channel import (
    AgentChannel,
    ChannelClosed,
    Command,
    RequestRefused,
    parse_cut,
    parse_entries,
    parse_more,
    parse_rooms,
    parse_size,
    parse_stat,
    parse_sums,
)
from .counts import Counts
from .inside.frames import MAX_PAYLOAD_BYTES, Frame
from .output import Output
from .room import any_is_full

KILL_GRACE_S = 5.0
"""How long an agent may take to end a command; one that takes longer is killed with its sandbox."""
FILE_S = 30.0
_CHUNK_BYTES = 1024 * 1024
_LOST = "The sandbox is gone, and its workspace with it."


Raw = TypeVar("Raw")
Parsed = TypeVar("Parsed")


class Enclosure(Protocol):
    """What holds a sandbox's processes, seen from outside. Its methods block for a moment."""

    def begin(self) -> Counts:
        """The kernel's counts so far; the peak of memory is counted from here on."""
        ...

    def counts(self) -> Counts: ...

    def is_full(self) -> bool | None:
        """Whether a writable folder takes no more; None where that cannot be seen from outside."""
        ...

    def freeze(self) -> None:
        """Raises SandboxUnavailable; does nothing where it cannot be done at all."""
        ...

    def thaw(self) -> None:
        """Raises SandboxUnavailable."""
        ...

    def end(self) -> None: ...


Watch: TypeAlias = Callable[[Callable[[Verdict], None]], Callable[[], None]]
"""Called when a command begins, with what stops it for a reason. What it returns is called when the command ended."""


class WayOut(Protocol):
    """What a sandbox's connections pass through, seen from outside. Its methods do not block."""

    def assign(self, session_id: str) -> None: ...

    def hang_up(self) -> None: ...

    def close(self) -> None: ...


class AgentSandbox:
    """A `Sandbox` over an agent that is ready.

    One command runs at a time, and another waits for it within its own timeout: the end of a command is
    the end of every process in the sandbox, so that no daemon outlives it. File operations do not wait.
    """

    def __init__(
        self,
        channel: AgentChannel,
        enclosure: Enclosure,
        limits: Limits,
        *,
        clock: Clock,
        watch: Watch | None = None,
        way_out: WayOut | None = None,
    ) -> None:
        self._channel = channel
        self._enclosure = enclosure
        self._limits = limits
        self._clock = clock
        self._watch = watch
        self._way_out = way_out
        self._command_turn = asyncio.Lock()  # guards the processes inside: one command at a time
        self._upload_turn = asyncio.Lock()  # guards the agent's one unfinished upload
        self._destroyed = False

    async def shell(self, command: str, *, timeout_s: float, on_output: OnOutput | None = None) -> ExecResult:
        return await self._execute("shell", command, timeout_s, on_output)

    async def python(
        self, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        return await self._execute("keep" if keep else "python", code, timeout_s, on_output)

    async def read(self, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        if offset < 0 or max_bytes < 0:
            raise WorkspaceError("offset and max_bytes must not be negative")
        parts: list[bytes] = []
        missing = max_bytes
        position = offset
        while True:
            wanted = min(missing, _CHUNK_BYTES)
            header, data = await self._request("read", path, offset=position, max=wanted)
            size = self._trusted(parse_size, header)
            parts.append(data[:wanted])
            position += len(parts[-1])
            missing -= len(parts[-1])
            if not missing or not parts[-1] or position >= size:
                return FileSlice(b"".join(parts), offset, size)

    async def stat(self, path: str) -> FileStat:
        where, kind, size = self._trusted(parse_stat, await self._request("stat", path))
        return FileStat(where, cast("FileKind", kind), size)

    async def write(self, path: str, data: bytes) -> None:
        if len(data) > self._limits.file_bytes:
            raise WorkspaceError(f"{path} would have {len(data)} bytes; a file may have {self._limits.file_bytes}")
        async with self._upload_turn:
            for start in range(0, max(1, len(data)), _CHUNK_BYTES):
                chunk = data[start : start + _CHUNK_BYTES]
                last = start + _CHUNK_BYTES >= len(data)
                await self._request("write", path, chunk, first=start == 0, last=last)

    async def list(self, path: str = ".", *, max_entries: int = 1000) -> Listing:
        header, payload = await self._request("list", path, max=max_entries)
        entries = self._trusted(parse_entries, payload)[: max(0, max_entries)]
        cut = self._trusted(parse_cut, header)
        return Listing((FileInfo(name, size, is_dir) for name, size, is_dir in entries), cut=cut)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        await self._request("remove", path, recursive=recursive)

    def assign(self, session_id: str) -> None:
        if self._way_out:
            self._way_out.assign(session_id)

    async def pack(self, *, max_bytes: int) -> AsyncGenerator[bytes]:
        # No command runs meanwhile, so that files do not change under the packing.
        async with self._command_turn:
            first, more, size = True, True, 0
            while more:
                header, data = await self._request("pack", ".", first=first, max=self._limits.workspace_bytes)
                first, more = False, self._trusted(parse_more, header)
                size += len(data)
                if size > max_bytes:
                    raise WorkspaceError(f"the workspace packs to more than {max_bytes} bytes")
                yield data

    async def unpack(self, chunks: AsyncIterable[bytes]) -> CopyResult:
        async with self._command_turn:
            first = True
            async for chunk in chunks:
                for start in range(0, len(chunk), _CHUNK_BYTES):
                    await self._unpack(chunk[start : start + _CHUNK_BYTES], first=first, last=False)
                    first = False
            header, _ = await self._unpack(b"", first=first, last=True)
            return CopyResult(*self._trusted(parse_sums, header))

    async def _unpack(self, data: bytes, *, first: bool, last: bool) -> Frame:
        return await self._request("unpack", ".", data, first=first, last=last, max=self._limits.workspace_bytes)

    async def pause(self) -> None:
        self._check_alive()
        await asyncio.to_thread(self._enclosure.freeze)

    async def resume(self) -> None:
        self._check_alive()
        await asyncio.to_thread(self._enclosure.thaw)

    async def destroy(self) -> None:
        self._destroyed = True
        self._channel.close()
        if self._way_out:
            self._way_out.close()
        # Whoever gives up waiting must not leave it half done.
        await asyncio.shield(asyncio.to_thread(self._enclosure.end))

    async def _execute(self, kind: str, text: str, timeout_s: float, on_output: OnOutput | None) -> ExecResult:
        self._check_alive()
        source = text.encode("utf-8", "replace")
        if len(source) > MAX_PAYLOAD_BYTES:
            message = (
                f"The program has {len(source)} bytes; at most {MAX_PAYLOAD_BYTES} can be run. Write it to a file.\n"
            )
            return ExecResult("nonzero", None, message)
        started = self._clock.monotonic()
        deadline = asyncio.get_running_loop().time() + min(timeout_s, self._limits.command_s)
        try:
            async with asyncio.timeout_at(deadline):
                await self._command_turn.acquire()
        except TimeoutError:
            return ExecResult("timeout", None, "", wall_s=self._clock.monotonic() - started)
        try:
            self._check_alive()
            run = _Run(self._channel, Output(self._limits.output_bytes, _on_loop(on_output)))
            before = self._enclosure.begin()
            unwatch = self._watch(run.stop) if self._watch else None
            try:
                code = await self._see_through(run, kind, source, deadline)
            finally:
                if unwatch:
                    unwatch()
            wall_s = self._clock.monotonic() - started
            after = self._enclosure.counts()
            verdict = await self._verdict(run, code, before, after)
        finally:
            if self._way_out:  # whoever was connected has ended with the command
                self._way_out.hang_up()
            self._command_turn.release()
        cpu_s = None if before.cpu_s is None or after.cpu_s is None else after.cpu_s - before.cpu_s
        return ExecResult(
            verdict,
            code,
            run.output.text(),
            run.output.truncated,
            wall_s,
            output_bytes=run.output.total_bytes,
            cpu_s=cpu_s,
            peak_memory_bytes=after.peak_memory_bytes,
            variables=run.variables,
        )

    async def _see_through(self, run: "_Run", kind: str, source: bytes, deadline: float) -> int | None:
        try:
            command = run.start(kind, source)
        except ChannelClosed:
            return None
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(command.exit)
        except TimeoutError:
            run.stop("timeout")
        except asyncio.CancelledError:
            run.stop("cancelled")
            await self._settle(command)
            raise
        code = await self._settle(command)
        # As a shell reports it: 128 and the number of the signal.
        return code if code is None or code >= 0 else 128 - code

    async def _settle(self, command: Command) -> int | None:
        await asyncio.wait({command.exit}, timeout=KILL_GRACE_S)
        if command.exit.done():
            return command.exit.result()
        # The agent does not answer, so nobody can say that the command has ended: end all of it.
        self._channel.close()
        await asyncio.shield(asyncio.to_thread(self._enclosure.end))
        return None

    async def _verdict(self, run: "_Run", code: int | None, before: Counts, after: Counts) -> Verdict:
        if self._destroyed:
            return "cancelled"
        if self._channel.closed.is_set():
            return "sandbox_lost"
        if run.stopped:
            return run.stopped
        if after.oom_kills > before.oom_kills:
            return "oom"
        if code == 0:
            return "ok"
        if after.forks_refused > before.forks_refused:
            return "pids"
        return "disk" if await self._is_full() else "nonzero"

    async def _is_full(self) -> bool:
        """The kernel is asked from outside. Where we may not look, the agent is asked: no code of tools can speak in
        its place, and a lie could make no more of a failure than a failure with another reason."""
        full = self._enclosure.is_full()
        if full is not None:
            return full
        try:
            return any_is_full(self._trusted(parse_rooms, await self._request("room", ".")))
        except (WorkspaceError, SandboxUnavailable):
            return False

    async def _request(self, operation: str, path: str, payload: bytes = b"", **members: int | bool) -> Frame:
        self._check_alive()
        if "\0" in path or len(path) > 4096:
            raise WorkspaceError("a path has at most 4096 characters and no NUL")
        path = path.encode("utf-8", "replace").decode()
        try:
            async with asyncio.timeout(FILE_S):
                return await self._channel.request(operation, payload, path=path, **members)
        except RequestRefused as refusal:
            raise WorkspaceError(str(refusal)) from None
        except ChannelClosed:
            raise SandboxUnavailable(_LOST) from None
        except TimeoutError:
            self._channel.close()
            raise SandboxUnavailable(f"The sandbox did not answer in {FILE_S:.0f} s and was given up.") from None

    def _check_alive(self) -> None:
        if self._channel.closed.is_set():
            raise SandboxUnavailable(_LOST)

    def _trusted(self, parse: Callable[[Raw], Parsed], value: Raw) -> Parsed:
        try:
            return parse(value)
        except ValueError as error:
            self._channel.close()
            raise SandboxUnavailable(f"The sandbox answered nonsense and was given up: {error}.") from None


class _Run:
    """One command, what it prints, and why the host stopped it, if it did."""

    def __init__(self, channel: AgentChannel, output: Output) -> None:
        self.output = output
        self.stopped: Verdict | None = None
        self._channel = channel
        self._command: Command | None = None

    @property
    def variables(self) -> Variables | None:
        return self._command.variables if self._command else None

    def start(self, kind: str, source: bytes) -> Command:
        self._command = self._channel.start(kind, source, self._add)
        return self._command

    def stop(self, verdict: Verdict) -> None:
        if self.stopped is None and self._command:
            self.stopped = verdict
            self._channel.kill(self._command)

    def _add(self, data: bytes) -> None:
        self.output.add(data)
        if self.output.is_flood:
            self.stop("output_limit")


def _on_loop(on_output: OnOutput | None) -> OnOutput | None:
    # A callback of its own, so that what it raises is the caller's problem and not the connection's.
    if on_output is None:
        return None
    loop = asyncio.get_running_loop()

    def deliver(text: str) -> None:
        loop.call_soon(on_output, text)

    return deliver
