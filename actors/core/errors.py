"""Every error that crosses a border, as one tree.

GreenroomError (code, retryable, details)
├── InputError ........ InvalidInput · UnknownModel · MessageTooLarge · CursorExpired · IdempotencyKeyReused
│                       InvalidPath · FileTooLarge · RangeNotSatisfiable
├── AccessError ....... Unauthenticated · Forbidden · AccountSuspended · PolicyRefusal
├── NotFoundError ..... SessionNotFound · TurnNotFound · MessageNotFound · ApprovalNotFound · NoSuchFile
├── ConflictError ..... Fenced · NotHere · SessionExists · SessionBusy · MessageNotWaiting · ApprovalNotPending
│                       HoldConflict · WorkspaceConflict
├── LimitError ........ TurnLimit · AtCapacity · InboxFull · BudgetExceeded
└── UnavailableError .. ModelUnavailable · ModelProtocolError · ModelRefused · SandboxUnavailable
                        LeaseEnded · SandboxLost · MemoryUnavailable · StoreUnavailable · LedgerUnavailable
                        SessionLost · Draining   (retryable)

The docstring of a class is its default message. `code` is the wire contract and never changes; the
HTTP status of each code is in `serve_app/problems.py`. What a *tool* does wrong is not an error of
this tree but data for the model: `actors/tools/base.py`.
"""

from typing import Any, ClassVar


class GreenroomError(Exception):
    """Something in Greenroom went wrong."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or _summary(type(self))
        self.details = details
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions with keyword-only arguments do not unpickle by themselves, and Ray would then
        # raise its own `UnserializableException` in place of ours.
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(cls: type[GreenroomError], message: str, details: dict[str, Any]) -> GreenroomError:
    return cls(message, **details)


def _summary(cls: type[GreenroomError]) -> str:
    return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


class InputError(GreenroomError):
    """The request is wrong."""

    code = "invalid_input"


class InvalidInput(InputError):
    """The request is not valid."""


class UnknownModel(InputError):
    """There is no such model."""

    code = "unknown_model"


class MessageTooLarge(InputError):
    """The message is too large."""

    code = "message_too_large"


class CursorExpired(InputError):
    """The history before that event was trimmed; read from `oldest_seq`."""

    code = "cursor_expired"


class IdempotencyKeyReused(InputError):
    """This Idempotency-Key came with another request before; use a new key for a new request."""

    code = "idempotency_key_reused"


class InvalidPath(InputError):
    """That is no path of a file in a workspace."""

    code = "invalid_path"


class FileTooLarge(InputError):
    """The file is larger than a file may be."""

    code = "file_too_large"


class RangeNotSatisfiable(InputError):
    """The file has no such bytes."""

    code = "range_not_satisfiable"


class AccessError(GreenroomError):
    """This caller may not do that."""

    code = "forbidden"


class Unauthenticated(AccessError):
    """No valid API key came with the request; send `Authorization: Bearer <key>`."""

    code = "unauthenticated"


class Forbidden(AccessError):
    """The API key does not allow this."""


class PolicyRefusal(AccessError):
    """The policy does not allow this file operation."""

    code = "policy_refused"


class AccountSuspended(AccessError):
    """The account is suspended: what costs money is refused until somebody lifts that."""

    code = "account_suspended"


class NotFoundError(GreenroomError):
    """There is nothing of that name."""

    code = "not_found"


class SessionNotFound(NotFoundError):
    """There is no such session."""

    code = "session_not_found"


class TurnNotFound(NotFoundError):
    """There is no such turn."""

    code = "turn_not_found"


class MessageNotFound(NotFoundError):
    """There is no such message in the inbox."""

    code = "message_not_found"


class ApprovalNotFound(NotFoundError):
    """There is no such approval."""

    code = "approval_not_found"


class NoSuchFile(NotFoundError):
    """There is no such file in the workspace."""

    code = "file_not_found"


class ConflictError(GreenroomError):
    """The state of the session does not allow this now."""

    code = "conflict"


class Fenced(ConflictError):
    """Another writer has taken this session over; nothing was written."""

    code = "fenced"
    retryable = True


class NotHere(ConflictError):
    """This process does not host the session; ask the directory again."""

    code = "not_here"
    retryable = True


class SessionExists(ConflictError):
    """A session with this id exists already."""

    code = "session_exists"


class SessionBusy(ConflictError):
    """A turn runs, and the message was not to wait for it."""

    code = "session_busy"
    retryable = True


class MessageNotWaiting(ConflictError):
    """The turn of this message has begun or ended; what it said can no longer be changed."""

    code = "message_not_waiting"


class ApprovalNotPending(ConflictError):
    """It was decided before, or its turn has ended."""

    code = "approval_not_pending"


class WorkspaceConflict(ConflictError):
    """What is in the workspace does not allow this."""

    code = "workspace_conflict"


class HoldConflict(ConflictError):
    """The attempt's hold is in a state that does not allow this, or was given another amount."""

    code = "hold_conflict"


class LimitError(GreenroomError):
    """A limit was reached."""

    code = "limit_reached"


class TurnLimit(LimitError):
    """The turn reached one of its limits."""

    code = "turn_limit"


class AtCapacity(LimitError):
    """Every session actor is full of busy sessions; try again shortly."""

    code = "at_capacity"
    retryable = True


class InboxFull(LimitError):
    """Too many messages wait in this session; send the next one when some have been answered."""

    code = "inbox_full"
    retryable = True


class BudgetExceeded(LimitError):
    """A budget does not allow what this may cost."""

    code = "budget_exceeded"


class UnavailableError(GreenroomError):
    """A part that is needed does not answer now."""

    code = "unavailable"
    retryable = True


class ModelUnavailable(UnavailableError):
    """The model server does not answer."""

    code = "model_unavailable"


class ModelProtocolError(UnavailableError):
    """The model server sent something that is not a valid answer."""

    code = "model_protocol_error"


class ModelRefused(UnavailableError):
    """The model server refused the request."""

    code = "model_refused"
    retryable = False


class SandboxUnavailable(UnavailableError):
    """No sandbox can be had, so tool code is not run."""

    code = "sandbox_unavailable"


class LeaseEnded(SandboxUnavailable):
    """The call was made for a sandbox that the session no longer has. It was not carried out."""


class SandboxLost(SandboxUnavailable):
    """The process that holds the sandbox died, or did not answer: nobody knows whether the call was carried out."""

    code = "sandbox_lost"
    retryable = False


class MemoryUnavailable(UnavailableError):
    """The memory store does not answer."""

    code = "memory_unavailable"


class StoreUnavailable(UnavailableError):
    """The database does not answer."""

    code = "store_unavailable"


class LedgerUnavailable(UnavailableError):
    """The ledger does not answer, so nothing that costs money is begun."""

    code = "ledger_unavailable"


class SessionLost(UnavailableError):
    """The process that hosted the session is gone; its journal is not."""

    code = "session_lost"


class Draining(UnavailableError):
    """This process is shutting down and takes no new work."""

    code = "draining"
