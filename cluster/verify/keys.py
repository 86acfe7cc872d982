"""P5: requests under one idempotency key make one turn, and the model is asked as often as the ledger says."""

from collections.abc import Iterator

from actors.agent.model_call import INTERRUPTED
from actors.core.events import MessageCompleted
from actors.ledger.book import Attempt

from .client_view import ClientView, Message
from .history import History
from .violations import Violation

_NO_VERDICT = (401, 403, 408, 429)
"""Refusals that say nothing of the body: the request was not looked at."""


def check_keys(clients: ClientView) -> Iterator[Violation]:
    """One key, one turn, one body, in whatever sessions."""
    for message in clients.messages:
        if message.key is not None:
            yield from _check_turns(message)
            yield from _check_bodies(message)


def _check_turns(message: Message) -> Iterator[Violation]:
    answers = [answer for request in message.requests if (answer := request.acknowledged) is not None]
    turns = list(dict.fromkeys(answer.turn_id for answer in answers))
    if len(turns) > 1:
        says = f"Key {message.key!r} was answered with {len(turns)} turns: {', '.join(map(str, turns))}."
        yield Violation("P5", "two_turns", answers[0].session_id or "", says, turns[-1])


def _check_bodies(message: Message) -> Iterator[Violation]:
    first = next((one for one in sorted(message.requests, key=lambda one: one.answered_at) if one.acknowledged), None)
    if first is None or first.sent.body is None:
        return
    assert first.answered is not None
    for request in message.requests:
        answer = request.answered
        if answer is None or request.sent.body in (None, first.sent.body):
            continue
        looked_at = answer.status < 500 and answer.status not in _NO_VERDICT
        came_later = request.sent_at > first.answered_at
        if request.acknowledged or (came_later and looked_at and answer.status != 422):
            says = (
                f"Request {request.sent.request} used key {message.key!r} for another body than "
                f"{first.sent.request} and was answered {answer.status}, not 422."
            )
            yield Violation("P5", "other_body", first.answered.session_id or "", says, first.answered.turn_id)


def check_model_calls(history: History, clients: ClientView) -> Iterator[Violation]:
    """What the model server counted lies between the answers that the journal has and the attempts that were sent."""
    attempts = history.evidence.attempts
    if attempts is None:
        return
    for turn in history.turns.values():
        counted = clients.model_calls.get(turn.id)
        if counted is None:
            continue
        sent = sum(_may_have_been_sent(attempt) for attempt in attempts if attempt.turn_id == turn.id)
        whole = sum(isinstance(e.body, MessageCompleted) and e.body.finish_reason != INTERRUPTED for e in turn.events)
        if not whole <= counted <= sent:
            says = (
                f"The model server answered {counted} times for turn {turn.id}; "
                f"the ledger has {sent} attempts that were sent, the journal {whole} whole answers."
            )
            yield Violation("P5", "model_calls", history.session_id, says, turn.id)


def _may_have_been_sent(attempt: Attempt) -> bool:
    return attempt.kind == "model" and attempt.outcome != "not_sent"
