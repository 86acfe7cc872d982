"""The sandboxes of sessions as people use them: beside the model, under the same policy, into the same audit.

No session is brought into memory for it: whose it is stands in the book, and its sandbox is found by its id.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from ..core.errors import GreenroomError, SessionNotFound
from ..core.events import SessionCreated
from ..sandbox.base import Sandboxes
from ..security.guard import Caller, SandboxGuard
from .book import SessionBook
from .sessions import NewSession


class Workspaces:
    """Opens the sandbox of a session to its user. One per process."""

    def __init__(self, book: SessionBook, guard: SandboxGuard) -> None:
        self._book = book
        self._guard = guard

    @asynccontextmanager
    async def opened(self, session_id: str, user_id: str, *, key_id: str | None = None) -> AsyncGenerator[Sandboxes]:
        """The sandboxes as this person may use them for that session. Raises `SessionNotFound`.

        A session may be deleted meanwhile. Its sandbox was destroyed then; one that a late call got is destroyed here.
        """
        await self.check(session_id, user_id)
        try:
            yield self._guard.for_call(Caller(user_id, session_id, key_id=key_id))
        finally:
            with suppress(GreenroomError):
                await self._end_with_its_session(session_id, user_id)

    async def begin(self, session_id: str, user_id: str, new: NewSession) -> None:
        """Open a session that has no message yet, or find it. Raises `SessionExists` when it is someone else's."""
        created = SessionCreated(user_id, new.model, new.system, new.metadata, new.approvals)
        await self._book.open(session_id, user_id, created)

    async def check(self, session_id: str, user_id: str) -> None:
        """Raises `SessionNotFound` when the user has no such session, or has it no more."""
        await self._book.get(session_id, user_id)

    async def _end_with_its_session(self, session_id: str, user_id: str) -> None:
        try:
            await self.check(session_id, user_id)
        except SessionNotFound:
            await self._guard.sandboxes.release(session_id)
