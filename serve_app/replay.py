"""A turn's result read back from the journal, for a caller whose host is gone."""

from actors.agent.book import SessionBook
from actors.agent.results import result_of
from actors.agent.sessions import Receipt, Sessions, TurnResult
from actors.agent.state import SessionState, TurnState


async def ended_turn(book: SessionBook, sessions: Sessions, receipt: Receipt, user_id: str) -> TurnResult | None:
    """The result of an accepted turn, or None while it has no terminal event."""
    row = await book.turn(receipt.turn_id, user_id)
    if row.outcome is None:
        return None
    state = SessionState(receipt.session_id)
    turn: TurnState | None = None
    while turn is None or turn.outcome is None:
        batch = await sessions.follow(receipt.session_id, user_id, after=state.last_seq, seen={}, wait_s=1.0)
        if not batch.events:
            return None
        for event in batch.events:
            state.apply(event)
            turn = state.turns.get(receipt.turn_id, turn)
    return result_of(receipt.session_id, turn)
