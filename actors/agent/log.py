"""A resident session's writing desk: stage events, flush them to the journal, show them to readers.

Staged events change the state at once and reach readers only when they are durable. If the journal
refuses them, the whole resident session is dropped, state and all, so nobody sees what was not written.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from ..core.clock import Clock
from ..core.errors import Fenced, GreenroomError, SessionLost
from ..core.events import Body, Event
from ..ledger.book import AttemptEntry
from .journal import Append, Journal, Profile
from .previews import Kind, Previews, Seen
from .sessions import Batch
from .state import SessionState

TAIL_EVENTS = 64
"""Durable events kept at hand for readers; older ones come from the journal."""

PAGE_EVENTS = 500
"""Events read from the journal at once for a reader that is far behind."""


class SessionLog:
    """State, outbox and readers of one session. Not thread-safe: it belongs to one event loop."""

    def __init__(
        self, state: SessionState, *, epoch: int, journal: Journal, clock: Clock, delta_interval_s: float
    ) -> None:
        self.state = state
        self.lost: GreenroomError | None = None
        """Why nothing can be written any more. Once set, the session must be dropped."""
        self._epoch = epoch
        self._journal = journal
        self._clock = clock
        self._delta_interval_s = delta_interval_s
        self._durable = state.last_seq
        self._outbox: list[Event] = []
        self._attempts: list[AttemptEntry] = []
        self._flusher: asyncio.Task[None] | None = None
        self._tail: deque[Event] = deque(maxlen=TAIL_EVENTS)
        self._previews = Previews()
        self._changed = asyncio.Event()
        self._last_shown = 0.0
        self._show_later: asyncio.TimerHandle | None = None
        self._write_later: asyncio.TimerHandle | None = None
        self._title_written = state.title
        self.on_lost: Callable[[GreenroomError], None] | None = None

    @property
    def epoch(self) -> int:
        """At which this process took the session over."""
        return self._epoch

    # Writing ---------------------------------------------------------------------------------------

    def stage(self, body: Body, turn_id: str | None = None) -> Event:
        """Take an event in; it is written by the next flush."""
        event = Event(self.state.last_seq + 1, self.state.session_id, turn_id, self._clock.now(), body)
        self.state.apply(event)
        self._outbox.append(event)
        return event

    def stage_attempt(self, entry: AttemptEntry) -> None:
        """A ledger entry for the next flush, in the same transaction as its events."""
        self._attempts.append(entry)

    async def flush(self) -> None:
        """Return when all that was staged before is durable. Raises `Fenced`, `SessionExists` or `StoreUnavailable`.

        A caller that is cancelled stops waiting; what it staged is written all the same.
        """
        if self.lost is not None:
            raise self.lost
        await asyncio.shield(self._flushing())

    def flush_later(self, after_s: float) -> None:
        """Write ledger entries that are staged by themselves, should they still be there after so long."""
        if self._write_later is not None:
            self._write_later.cancel()
        self._write_later = asyncio.get_running_loop().call_later(after_s, self._write_entries)

    def _write_entries(self) -> None:
        # With events somebody is about to flush, and knows what belongs into one commit.
        if self.lost is None and self._attempts and not self._outbox:
            self._flushing()

    def _flushing(self) -> "asyncio.Task[None]":
        if self._flusher is None:
            # A task of its own, which starts after the tasks that were made before it: what a turn that
            # was just started stages first rides in the commit of the message that started it.
            self._flusher = asyncio.create_task(self._drain(), name=f"flush {self.state.session_id}")
            self._flusher.add_done_callback(retrieve)
        return self._flusher

    async def _drain(self) -> None:
        try:
            while self._outbox or self._attempts:
                append = self._take()
                await self._journal.append(append)
                self._tail.extend(append.events)
                self._durable += len(append.events)
                self._show()
                if self.lost is not None:
                    raise self.lost
        except Exception as error:  # whatever it is, what is staged here and what is written differ from now on
            self.lose(error if isinstance(error, GreenroomError) else SessionLost(f"the journal failed: {error!r}"))
            raise
        finally:
            self._flusher = None

    def lose(self, reason: GreenroomError) -> None:
        """Nothing is written from here on. Readers and the session are told, once."""
        if self.lost is None:
            self.lost = reason
            self._show()
            if self.on_lost is not None:
                self.on_lost(reason)

    def _take(self) -> Append:
        events, self._outbox = tuple(self._outbox), []
        attempts, self._attempts = tuple(self._attempts), []
        state = self.state
        profile = None
        if self._durable == 0 or state.title != self._title_written:
            profile = Profile(state.title, state.system, state.metadata, state.approvals, state.forked_from)
            self._title_written = state.title
        return Append(
            state.session_id,
            state.user_id,
            self._epoch,
            self._durable,
            events,
            attempts=attempts,
            profile=profile,
            status=state.status,
        )

    async def confirm(self) -> None:
        """Raises `Fenced` when the session lives elsewhere by now: then what is known of it here is old."""
        if self.lost is None and await self._journal.overtaken({self.state.session_id: self._epoch}):
            self.lose(Fenced(session_id=self.state.session_id, epoch=self._epoch))
        if self.lost is not None:
            raise self.lost

    # Reading ---------------------------------------------------------------------------------------

    def preview(self, kind: Kind, turn_id: str, item_id: str, text: str) -> None:
        """Show text that is being written. Readers are woken at most once in `delta_interval_s`."""
        self._previews.add(kind, turn_id, item_id, text)
        if self._show_later is not None:
            return
        wait = self._last_shown + self._delta_interval_s - self._clock.monotonic()
        if wait <= 0:
            self._show()
        else:
            self._show_later = asyncio.get_running_loop().call_later(wait, self._show)

    def previewed(self, kind: Kind, item_id: str) -> str:
        """What was shown of an item that is still being written."""
        return self._previews.text(kind, item_id)

    def clear_previews(self) -> None:
        """What was previewed is now told by events, or was given up."""
        self._previews.clear()

    async def follow(self, *, after: int, seen: Seen, wait_s: float) -> Batch:
        """See `Sessions.follow`. Raises the reason when the session is lost while waiting.

        `wait_s` is for what is not there yet: a page that is there is read to its end, however long that takes.
        """
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            changed = self._changed
            if after < self._durable:
                return Batch(await self._events(after), (), self._previews.still(seen))
            if previews := self._previews.since(seen):
                return Batch((), previews, self._previews.positions())
            if self.lost is not None:
                raise self.lost
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                return Batch((), (), dict(seen))

    async def _events(self, after: int) -> tuple[Event, ...]:
        if self._tail and self._tail[0].seq <= after + 1:
            return tuple(event for event in self._tail if event.seq > after)
        return await self._journal.read(self.state.session_id, after=after, limit=PAGE_EVENTS)

    def _show(self) -> None:
        if self._show_later is not None:
            self._show_later.cancel()
            self._show_later = None
        self._last_shown = self._clock.monotonic()
        self._changed.set()
        self._changed = asyncio.Event()


def retrieve(task: "asyncio.Task[None]") -> None:
    """The reason is kept in `lost`; without waiters asyncio would also complain of it on standard error."""
    if not task.cancelled():
        task.exception()
