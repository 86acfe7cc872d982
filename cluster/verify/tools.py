"""P6: a tool is started at most once, after its intent was journalled, and each call gets exactly one outcome."""

from collections.abc import Iterator

from actors.core.events import ApprovalExpired, ApprovalRequested, ApprovalResolved, Event, ToolCompleted, ToolStarted

from .history import Call, History, Turn
from .violations import Violation


def check_tools(history: History) -> Iterator[Violation]:
    for turn in history.turns.values():
        undecided = _starts_without_a_decision(turn)
        for call in turn.calls.values():
            for rule, says in _faults(turn, call):
                yield Violation("P6", rule, history.session_id, f"Call {call.id} {says}.", turn.id)
            if call.id in undecided:
                says = f"Call {call.id} was started as event {undecided[call.id]} although nobody had approved it."
                yield Violation("P6", "unapproved", history.session_id, says, turn.id)


def _faults(turn: Turn, call: Call) -> Iterator[tuple[str, str]]:
    if len(call.started) > 1:
        yield "started_twice", f"was started {len(call.started)} times, as events {_numbers(call.started)}"
    if not call.requested:
        yield "unrequested", f"has events {_numbers(call.started + call.outcomes)} and was never requested"
    elif len(call.requested) > 1:
        yield "requested_twice", f"was requested {len(call.requested)} times, as events {_numbers(call.requested)}"
    if len(call.outcomes) > 1:
        yield "two_outcomes", f"has {len(call.outcomes)} outcomes, events {_numbers(call.outcomes)}"
    if not call.outcomes:
        if call.requested and turn.ends:
            yield "no_outcome", f"has no outcome although its turn ended with event {turn.ends[0].seq}"
        return
    outcome = call.outcomes[0]
    late = [event for event in call.started if event.seq > outcome.seq]
    if late:
        yield "started_after_outcome", f"was started as event {late[0].seq}, after its outcome, event {outcome.seq}"
    ran = isinstance(outcome.body, ToolCompleted) and outcome.body.error is None
    if ran and not any(event.seq < outcome.seq for event in call.started):
        yield "no_intent", f"succeeded as event {outcome.seq} without a tool.started before it"


def _starts_without_a_decision(turn: Turn) -> dict[str, int]:
    """Calls that were started while a person was still asked, or had said no: the number of the start."""
    allowed: dict[str, bool] = {}
    found: dict[str, int] = {}
    for event in turn.events:
        match event.body:
            case ApprovalRequested(tool_call_id=call_id):
                allowed[call_id] = False
            case ApprovalResolved(tool_call_id=call_id, decision=decision):
                allowed[call_id] = decision == "approve"
            case ApprovalExpired(tool_call_id=call_id, decision=decision):
                allowed[call_id] = decision == "approve"
            case ToolStarted(tool_call_id=call_id) if not allowed.get(call_id, True):
                found.setdefault(call_id, event.seq)
            case _:
                pass
    return found


def _numbers(events: list[Event]) -> str:
    return ", ".join(str(event.seq) for event in events)
