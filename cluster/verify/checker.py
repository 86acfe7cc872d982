"""The history checker: sessions in, broken promises out. No Ray, no sockets, no database.

Sessions are handed in one at a time, so a large journal need not fit in memory; what concerns several of
them, or a session that is not there at all, comes at the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .cancels import check_cancels
from .client_log import Entry
from .client_view import ClientView
from .effects import check_effects
from .evidence import SessionEvidence
from .history import History
from .keys import check_keys, check_model_calls
from .ledger import check_ledger
from .mailbox import check_order
from .messages import check_lost_sessions, check_messages
from .numbers import check_numbers
from .readers import check_readers
from .tools import check_tools
from .transcripts import check_transcripts
from .turns import check_turns
from .violations import Violation


@dataclass(frozen=True, slots=True)
class Terms:
    """What to expect. `settled`: the cluster is at rest, so every accepted turn must have ended.

    `cancel_s` is the time within which a cancel has to be answered. `whole`: every session that the client log
    names is handed in, so one that is missing is lost.
    """

    settled: bool = False
    cancel_s: float = 15.0
    whole: bool = True


class HistoryChecker:
    """Checks session after session, each once, against one client log.

    Raises `ValueError` at once when the log refers to what it does not hold.
    """

    def __init__(self, client_log: Sequence[Entry] = (), terms: Terms | None = None) -> None:
        self._clients = ClientView(client_log)
        self._terms = terms or Terms()
        self._checked: set[str] = set()

    def check(self, session: SessionEvidence) -> tuple[Violation, ...]:
        """What is wrong with this session."""
        self._checked.add(session.session_id)
        history, clients, terms = History(session), self._clients, self._terms
        return (
            *check_messages(history, clients),
            *check_numbers(history),
            *check_order(history),
            *check_turns(history, settled=terms.settled),
            *check_readers(history, clients),
            *check_model_calls(history, clients),
            *check_tools(history),
            *check_effects(history, clients),
            *check_cancels(history, clients, within_s=terms.cancel_s),
            *check_transcripts(history),
            *check_ledger(history),
        )

    def leave_out(self, session_id: str) -> None:
        """It is there, and cannot be checked: what clients know of it is not held against it."""
        self._checked.add(session_id)

    @property
    def unchecked(self) -> frozenset[str]:
        """Sessions that the client log names and that were not handed in yet."""
        return frozenset(self._clients.sessions - self._checked)

    def finish(self) -> tuple[Violation, ...]:
        """What is wrong with sessions that were not handed in, and across sessions."""
        lost = check_lost_sessions(self._clients, self._checked) if self._terms.whole else ()
        return (*lost, *check_keys(self._clients))


def check_history(
    sessions: Iterable[SessionEvidence],
    *,
    client_log: Sequence[Entry] = (),
    settled: bool = False,
    cancel_s: float = 15.0,
) -> tuple[Violation, ...]:
    """Every violation of these sessions and of that client log, in the order of the sessions."""
    checker = HistoryChecker(client_log, Terms(settled=settled, cancel_s=cancel_s))
    found = [violation for session in sessions for violation in checker.check(session)]
    return (*found, *checker.finish())
