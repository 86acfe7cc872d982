"""The judgement at the end: the journal, and what was counted outside of it, before `cluster.verify`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from actors.core.clock import SystemClock
from actors.core.events import MessageAccepted, MessageSteered, ToolCompleted
from actors.security.cipher import ClearText
from actors.store.database import Database
from cluster.verify import ClientLog, Effects, HistoryChecker, ModelCalls, SessionEvidence, Terms, Violation
from cluster.verify.journal import JournalReader

from . import messages

CANCEL_S = 35.0
"""A host that is lost is replaced within 20 s, and has 15 s to stop a turn."""


@dataclass(frozen=True, slots=True)
class Judgement:
    violations: tuple[Violation, ...]
    sessions: int
    effects: int
    """Effects of tools that were counted in their sandboxes."""
    model_calls: int
    """Turns whose model calls were counted at the model server."""


async def judge(database: Database, log: ClientLog, answers: Mapping[str, int]) -> Judgement:
    """Check every session. `answers` are those that the model server gave, by the tag of the message."""
    reader = JournalReader(database, ClearText(), SystemClock())
    sessions: list[SessionEvidence] = []
    async for session_id in reader.session_ids():
        evidence = await reader.read(session_id)
        assert evidence is not None
        sessions.append(evidence)
    counted = Judgement((), len(sessions), 0, 0)
    for session in sessions:
        effects = _effects(session)
        calls = _model_calls(session, answers)
        for record in (*effects, *calls):
            log.write(record)
        counted = replace(counted, effects=counted.effects + len(effects), model_calls=counted.model_calls + len(calls))
    checker = HistoryChecker(log.entries, Terms(settled=True, cancel_s=CANCEL_S))
    found = [violation for session in sessions for violation in checker.check(session)]
    return replace(counted, violations=(*found, *checker.finish()))


def _effects(session: SessionEvidence) -> list[Effects]:
    shown = [event.body.content for event in session.events if isinstance(event.body, ToolCompleted)]
    return [Effects(session.session_id, effect, count) for effect, count in messages.effects(shown).items()]


def _model_calls(session: SessionEvidence, answers: Mapping[str, int]) -> list[ModelCalls]:
    """Answers by turn, for turns whose messages alone were asked about."""
    accepted: dict[str, tuple[str | None, str]] = {}
    steered: list[MessageSteered] = []
    for event in session.events:
        match event.body:
            case MessageAccepted(message_id=message_id, content=content):
                accepted[message_id] = (event.turn_id, content)
            case MessageSteered() as body:
                steered.append(body)
            case _:
                pass
    # The model is asked with the last message: where one was taken into a turn, two turns' calls are mixed.
    mixed = {one.into_turn_id for one in steered} | {accepted[one.message_id][0] for one in steered}
    return [
        ModelCalls(turn_id, answers.get(tag, 0))
        for turn_id, content in accepted.values()
        if turn_id is not None and turn_id not in mixed and (tag := _tag(content)) is not None
    ]


def _tag(content: str) -> str | None:
    return json.loads(content).get("tag") if content.startswith("{") else None
