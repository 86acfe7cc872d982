"""What becomes of a workspace when its sandbox ends before its session does: it is kept, and the next one gets it.

The host calls this at the border of a lease. What went wrong is remembered for the session, and told to the model at
its next call: a workspace must not be empty for a reason that nobody says.
"""

import asyncio
from contextlib import aclosing
from typing import Protocol

import structlog

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import SandboxUnavailable, StoreUnavailable
from .base import CopyResult, Sandbox, WorkspaceError
from .snapshots import Claim, SnapshotDamaged, Snapshots

SAVE_S = 120.0
"""A workspace that takes longer to save is not kept."""

AT_ONCE = 4
"""So many workspaces are saved at a time: a drain ends many leases, and each save has a few parts in memory."""

_FORGET_PAUSES_S = (1.0, 10.0, 60.0)
_FORGET_S = 5.0
_NOTICES_MAX = 10_000

_log = structlog.get_logger("greenroom.workspaces")


class Keeping(Protocol):
    """What a host of sandboxes asks when it gives a session a sandbox or takes it away."""

    async def given(self, session_id: str, sandbox: Sandbox) -> None:
        """Fill a new sandbox with what the session's last one left.

        Raises `SandboxUnavailable` when that cannot be had now: an empty one would look as if all were lost.
        """
        ...

    async def given_up(self, session_id: str, sandbox: Sandbox) -> bool:
        """Keep the workspace; whether the sandbox may be destroyed. It may not when the store does not answer.

        A workspace that cannot be kept at all is lost here, and that is remembered.
        """
        ...

    def lost(self, session_id: str, why: str) -> None:
        """The host destroys a sandbox although `given_up` asked it not to."""
        ...

    async def keeps(self, session_id: str) -> bool:
        """Whether there is a workspace of a session whose sandbox has ended. Raises `SandboxUnavailable`."""
        ...

    async def copied(self, source: str, target: Sandbox) -> CopyResult:
        """Fill a sandbox with what the last one of another session left.

        Raises `SandboxUnavailable`, and `WorkspaceError` when it cannot be read or does not fit.
        """
        ...

    async def forget(self, session_id: str) -> None:
        """Drop what is kept of a session that was deleted. Never raises."""
        ...

    def notice(self, session_id: str) -> str | None:
        """What the model must be told of the session's workspace, once."""
        ...


class NothingKept:
    """Workspaces end with their sandboxes."""

    async def given(self, session_id: str, sandbox: Sandbox) -> None:
        """It begins empty."""

    async def given_up(self, session_id: str, sandbox: Sandbox) -> bool:  # noqa: ARG002 - the Protocol's
        return True

    def lost(self, session_id: str, why: str) -> None:
        """As always."""

    async def keeps(self, session_id: str) -> bool:  # noqa: ARG002 - the Protocol's
        return False

    async def copied(self, source: str, target: Sandbox) -> CopyResult:  # noqa: ARG002 - the Protocol's
        return CopyResult()

    async def forget(self, session_id: str) -> None:
        """Nothing is kept."""

    def notice(self, session_id: str) -> str | None:  # noqa: ARG002 - the Protocol's
        return None


class KeptWorkspaces:
    """`Keeping` in `Snapshots`. Belongs to one event loop; a session has at most one sandbox here at a time."""

    def __init__(self, snapshots: Snapshots, *, max_bytes: int, clock: Clock) -> None:
        self._snapshots = snapshots
        self._max_bytes = max_bytes
        self._clock = clock
        self._numbers: dict[str, int] = {}
        """Of the leases whose sandboxes are here."""
        self._notices: dict[str, str] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._forgetting: set[asyncio.Task[None]] = set()

    async def given(self, session_id: str, sandbox: Sandbox) -> None:
        try:
            claim = await self._snapshots.claim(session_id)
            self._numbers[session_id] = claim.number
            await self._restore(session_id, claim, sandbox)
        except StoreUnavailable as error:
            telemetry.WORKSPACES.labels("restore", "store_unavailable").inc()
            raise SandboxUnavailable(
                f"The files of the session's workspace cannot be fetched now: {error.message}. Try again later."
            ) from error

    async def _restore(self, session_id: str, claim: Claim, sandbox: Sandbox) -> None:
        newest = claim.newest
        if newest is None:
            if claim.unsaved:
                self._tell(session_id, "The workspace is empty because its sandbox was lost before it was kept.")
        elif newest.lost is not None:
            self._tell(session_id, f"The workspace is empty because {newest.lost}.")
        else:
            await self._fill(session_id, claim, newest.number, sandbox)
            if claim.unsaved:
                self._tell(session_id, "What was done in the workspace after it was last kept may be missing.")

    async def _fill(self, session_id: str, claim: Claim, number: int, sandbox: Sandbox) -> None:
        try:
            async with asyncio.timeout(SAVE_S):
                await sandbox.unpack(self._snapshots.load(session_id, number))
        except (WorkspaceError, SnapshotDamaged, TimeoutError) as error:
            newest = await self._snapshots.newest(session_id)
            if newest is not None and newest.number != number:
                raise SandboxUnavailable("The session's workspace was saved anew meanwhile. Try again.") from error
            why = f"it could not be restored: {str(error) or 'it took too long'}"
            await self._lose(session_id, claim.number, "restore", "damaged", why)
            raise SandboxUnavailable(f"The next call gets an empty workspace: {why}.") from error
        telemetry.WORKSPACES.labels("restore", "kept").inc()

    async def given_up(self, session_id: str, sandbox: Sandbox) -> bool:
        number = self._numbers.get(session_id)
        if number is None:
            return True  # it was forgotten
        try:
            await self._snapshots.announce(session_id, number)
            async with self._turns:
                await self._save(session_id, number, sandbox)
        except StoreUnavailable as error:
            telemetry.WORKSPACES.labels("save", "store_unavailable").inc()
            _log.warning("workspace not saved yet", session_id=session_id, reason=error.message)
            return False
        self._numbers.pop(session_id, None)
        return True

    async def _save(self, session_id: str, number: int, sandbox: Sandbox) -> None:
        try:
            async with aclosing(sandbox.pack(max_bytes=self._max_bytes)) as chunks:
                size = await self._snapshots.save(session_id, number, chunks, within_s=SAVE_S)
        except (WorkspaceError, SandboxUnavailable) as error:
            await self._lose(session_id, number, "save", "unfit", f"it could not be kept: {error}")
            return
        telemetry.WORKSPACES.labels("save", "kept").inc()
        telemetry.WORKSPACE_BYTES.observe(size)

    async def _lose(self, session_id: str, number: int, operation: str, outcome: str, why: str) -> None:
        why = why.rstrip(".")
        await self._snapshots.lose(session_id, number, why)
        telemetry.WORKSPACES.labels(operation, outcome).inc()
        _log.warning("workspace lost", session_id=session_id, reason=why)

    def lost(self, session_id: str, why: str) -> None:
        self._numbers.pop(session_id, None)
        self._tell(session_id, f"The workspace is empty because {why}.")
        telemetry.WORKSPACES.labels("save", "lost").inc()
        _log.error("workspace lost", session_id=session_id, reason=why)

    async def keeps(self, session_id: str) -> bool:
        try:
            newest = await self._snapshots.newest(session_id)
        except StoreUnavailable as error:
            raise SandboxUnavailable(f"Nobody knows now what is kept of the workspace: {error.message}") from error
        return newest is not None and newest.lost is None

    async def copied(self, source: str, target: Sandbox) -> CopyResult:
        try:
            newest = await self._snapshots.newest(source)
            if newest is None or newest.lost is not None:
                return CopyResult()
            async with asyncio.timeout(SAVE_S):
                return await target.unpack(self._snapshots.load(source, newest.number))
        except StoreUnavailable as error:
            raise SandboxUnavailable(f"The files of the workspace cannot be fetched now: {error.message}") from error
        except (SnapshotDamaged, TimeoutError) as error:
            raise WorkspaceError(f"what was kept of the workspace cannot be read: {error}") from error

    async def forget(self, session_id: str) -> None:
        self._numbers.pop(session_id, None)
        self._notices.pop(session_id, None)
        task = asyncio.create_task(self._forget(session_id), name=f"forget workspace of {session_id}")
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)
        await asyncio.wait({task}, timeout=_FORGET_S)  # a store that is away must not hold up a deletion

    async def _forget(self, session_id: str) -> None:
        for pause_s in (*_FORGET_PAUSES_S, None):
            try:
                await self._snapshots.forget(session_id)
            except StoreUnavailable as error:
                telemetry.WORKSPACES.labels("forget", "store_unavailable").inc()
                _log.warning("kept workspace not deleted", session_id=session_id, reason=error.message)
                if pause_s is not None:
                    await self._clock.sleep(pause_s)
            else:
                telemetry.WORKSPACES.labels("forget", "done").inc()
                return

    def notice(self, session_id: str) -> str | None:
        return self._notices.pop(session_id, None)

    def _tell(self, session_id: str, sentence: str) -> None:
        self._notices[session_id] = sentence
        while len(self._notices) > _NOTICES_MAX:
            del self._notices[next(iter(self._notices))]
