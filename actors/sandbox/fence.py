"""In whose name a sandbox is used: what tells a call that comes too late from one that may be carried out.

The epoch is that of the session's journal, which only grows: who was overtaken there is refused here as well. The
lease is the number of the one that the call was made for: when that has ended, the call has come too late for it. Both
go with a call as a context variable, so that neither tools nor their guard have a part in it.
"""

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ..core.errors import LeaseEnded

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Fence:
    """What a call is bound to. None: to nothing, as a request of the session's user is to no epoch."""

    epoch: int | None = None
    lease: int | None = None


_fence: ContextVar[Fence] = ContextVar("sandbox_fence", default=Fence())  # noqa: B039 - it is frozen


def current() -> Fence:
    """Of the call that is under way."""
    return _fence.get()


@contextmanager
def bound(fence: Fence) -> Generator[None]:
    """Calls in the block, and tasks that are begun in it, are bound to this."""
    token = _fence.set(fence)
    try:
        yield
    finally:
        _fence.reset(token)


class Epochs:
    """The latest epoch of each session that has called, of those that called last."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()

    def check(self, session_id: str, epoch: int | None) -> bool:
        """Whether it is a later one than all before. Raises LeaseEnded for an earlier one."""
        if epoch is None:
            return False
        latest = self._latest.get(session_id)
        if latest is not None and epoch < latest:
            raise LeaseEnded("The session was taken over, and what it does is no longer told from here.")
        self._latest[session_id] = epoch
        self._latest.move_to_end(session_id)
        while len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)
        return latest is not None and epoch > latest
