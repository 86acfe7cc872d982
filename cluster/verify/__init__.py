"""Check that a cluster kept its promises, from its journal and from what clients wrote down."""

from .checker import HistoryChecker, Terms, check_history
from .client_log import (
    Answered,
    CancelAnswered,
    CancelSent,
    ClientLog,
    Closed,
    Deleted,
    Effects,
    Entry,
    ModelCalls,
    Opened,
    Record,
    Seen,
    Sent,
    Unanswered,
    WrongLog,
    digest,
    read_client_logs,
)
from .evidence import SessionEvidence, SessionFacts, TurnFacts, Unrecognised
from .violations import PROMISES, Promise, Violation

__all__ = [
    "PROMISES",
    "Answered",
    "CancelAnswered",
    "CancelSent",
    "ClientLog",
    "Closed",
    "Deleted",
    "Effects",
    "Entry",
    "HistoryChecker",
    "ModelCalls",
    "Opened",
    "Promise",
    "Record",
    "Seen",
    "Sent",
    "SessionEvidence",
    "SessionFacts",
    "Terms",
    "TurnFacts",
    "Unanswered",
    "Unrecognised",
    "Violation",
    "WrongLog",
    "check_history",
    "digest",
    "read_client_logs",
]
