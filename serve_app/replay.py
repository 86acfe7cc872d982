"""Turns read back from the journal: what was said, their events, and how they ended.

Asks no process that hosts sessions.
"""

from collections.abc import AsyncGenerator
from dataclasses import replace

from actors.agent.book import SessionBook, TurnRow
from actors.agent.results import result_of
from actors.agent.sessions import TurnResult
from actors.agent.state import SessionState
from actors.agent.turn_state import TurnState
from actors.core.events import TERMINAL, Event, MessageAccepted, MessageEdited, SessionCreated, TurnStarted

PAGE = 200


async def turn_events(book: SessionBook, row: TurnRow, *, after: int = 0) -> AsyncGenerator[Event]:
    """A turn's events numbered above `after`: to its end, or to the last that there is now."""
    after = max(after, row.accepted_seq - 1)
    more = True
    while more:
        found, more = await book.events(row.session_id, after=after, limit=PAGE)
        for event in found:
            after = event.seq
            if event.turn_id == row.id:
                yield event
                if isinstance(event.body, TERMINAL):
                    return


async def ended_turn(book: SessionBook, row: TurnRow) -> TurnResult:
    """The result of a turn that has ended, as it was told then."""
    # A session that holds this turn and nothing else: its events, numbered anew, are folded as ever.
    state = SessionState(row.session_id, SessionCreated("", ""))
    turn: TurnState | None = None
    async for event in turn_events(book, row):
        state.apply(replace(event, seq=state.last_seq + 1))
        turn = state.turns.get(row.id) or turn
    assert turn is not None
    return result_of(row.session_id, turn)


async def message_of(book: SessionBook, row: TurnRow) -> MessageAccepted:
    """The message that a turn answers, as it was when the turn began."""
    message: MessageAccepted | None = None
    async for event in turn_events(book, row):
        match event.body:
            case MessageAccepted() as body:
                message = body
            case MessageEdited(content=content) if message is not None:
                message = replace(message, content=content)
            case TurnStarted():
                break
            case _:
                pass
    assert message is not None
    return message
