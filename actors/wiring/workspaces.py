"""Workspaces for a process that has handles and no API: a notebook, a job."""

from ..agent.book import SessionBook
from ..agent.payloads import Payloads
from ..agent.sql_journal import SqlJournal
from ..agent.workspaces import Workspaces
from ..core.clock import Clock
from ..core.ids import NewId
from ..core.settings import Settings
from ..sandbox.base import Sandboxes
from ..security.audit import SqlAudit
from ..security.cipher import ClearText
from ..store.database import Database
from .policy import sandbox_guard
from .store import make_database


class WorkspacesOnDemand:
    """The policy is that of this process's settings, and so is the database that holds the book and the audit.

    It is opened when it is first needed: a program that only talks to sessions needs none.
    """

    def __init__(self, settings: Settings, sandboxes: Sandboxes, *, clock: Clock, new_id: NewId) -> None:
        self._settings = settings
        self._sandboxes = sandboxes
        self._clock = clock
        self._new_id = new_id
        self._database: Database | None = None

    def get(self) -> Workspaces:
        """Raises OSError where the file of the database's password is not there."""
        if self._database is None:
            self._database = make_database(self._settings)
        payloads = Payloads(ClearText())
        book = SessionBook(self._database, payloads, SqlJournal(self._database, payloads), self._clock)
        audit = SqlAudit(self._database, ClearText())
        guard = sandbox_guard(self._settings, self._sandboxes, audit=audit, clock=self._clock, new_id=self._new_id)
        return Workspaces(book, guard)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
