"""P1 against what clients know: each acknowledged message is in the journal, and nothing that nobody sent."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from actors.core.events import Event, MessageAccepted

from .client_view import ClientView, Message, Request
from .history import History
from .violations import Violation

_SHOWN = 60
"""Characters of a message that a finding quotes."""


def check_messages(history: History, clients: ClientView) -> Iterator[Violation]:
    for message in clients.messages_of(history.session_id):
        for request in message.requests:
            yield from _check_acknowledged(history, request)
    if clients.messages_of(history.session_id) and not history.is_fork:
        yield from _check_foreign(history, clients)


def check_lost_sessions(clients: ClientView, found: set[str]) -> Iterator[Violation]:
    """Messages that were acknowledged for sessions of which there is no journal."""
    for message in clients.messages:
        for request in message.requests:
            answer = request.acknowledged
            if answer is None or answer.session_id is None or answer.session_id in found | clients.deleted:
                continue
            says = f"Request {request.sent.request} was answered {answer.status}, and there is no such session."
            yield Violation("P1", "lost_session", answer.session_id, says, answer.turn_id)


def _check_acknowledged(history: History, request: Request) -> Iterator[Violation]:
    answer = request.acknowledged
    if answer is None or answer.session_id != history.session_id:
        return
    assert answer.turn_id is not None
    turn = history.turns.get(answer.turn_id)
    accepted = turn.accepted[0] if turn is not None and turn.accepted else None
    if accepted is None:
        if not _may_be_trimmed(history, answer.seq):
            says = (
                f"Request {request.sent.request} was answered {answer.status} with turn {answer.turn_id}, "
                "of which the journal holds no message."
            )
            yield Violation("P1", "lost_message", history.session_id, says, answer.turn_id)
        return
    assert isinstance(accepted.body, MessageAccepted)
    if accepted.body.content != request.sent.content:
        says = (
            f"Request {request.sent.request} said {_quoted(request.sent.content)}; "
            f"event {accepted.seq} holds {_quoted(accepted.body.content)}."
        )
        yield Violation("P1", "other_content", history.session_id, says, answer.turn_id)
    yield from _check_ids(history, request, accepted)


def _check_ids(history: History, request: Request, accepted: Event) -> Iterator[Violation]:
    answer, body = request.answered, accepted.body
    assert answer is not None
    assert isinstance(body, MessageAccepted)
    if answer.message_id not in (None, body.message_id):
        says = (
            f"Request {request.sent.request} was told message {answer.message_id}; "
            f"event {accepted.seq} is {body.message_id}."
        )
        yield Violation("P1", "other_message_id", history.session_id, says, answer.turn_id)
    if answer.seq not in (None, accepted.seq):
        says = f"Request {request.sent.request} was told number {answer.seq}; its message is event {accepted.seq}."
        yield Violation("P1", "other_number", history.session_id, says, answer.turn_id)


def _may_be_trimmed(history: History, seq: int | None) -> bool:
    return history.trimmed is not None and (seq is None or seq <= history.first_seq)


def _check_foreign(history: History, clients: ClientView) -> Iterator[Violation]:
    """By content and how often it was sent: a client that got no answer does not know its message's id."""
    sent: dict[str, list[Message]] = defaultdict(list)
    for message in clients.perhaps_of(history.session_id):
        for content in message.contents:
            sent[content].append(message)
    held: Counter[str] = Counter()
    for event in history.events:
        if not isinstance(event.body, MessageAccepted):
            continue
        content = event.body.content
        held[content] += 1
        if not sent[content]:
            says = f"Event {event.seq} holds a message that no client sent: {_quoted(content)}."
            yield Violation("P1", "never_sent", history.session_id, says, event.turn_id)
        elif held[content] > len(sent[content]):
            # Under a key it is the promise of the key that was broken.
            promise = "P5" if all(message.key is not None for message in sent[content]) else "P1"
            says = f"Event {event.seq} holds {_quoted(content)} once too often; sent: {len(sent[content])}."
            yield Violation(promise, "held_too_often", history.session_id, says, event.turn_id)


def _quoted(content: str) -> str:
    return repr(content if len(content) <= _SHOWN else content[: _SHOWN - 1] + "…")
