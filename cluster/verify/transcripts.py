"""P9: whenever no turn runs, the conversation that the journal folds into is one that providers take."""

from collections.abc import Iterator
from dataclasses import dataclass

from actors.agent.state import SessionState
from actors.agent.transcript_rules import AnthropicRules, OpenAIRules, TranscriptRules
from actors.core.events import HistoryTrimmed
from actors.core.messages import Message

from .evidence import Unrecognised
from .history import History
from .violations import Violation


def check_transcripts(history: History) -> Iterator[Violation]:
    state = SessionState(history.session_id)
    readers = [_Reader("OpenAI", OpenAIRules()), _Reader("Anthropic", AnthropicRules())]
    for event in history.events:
        if isinstance(event.body, Unrecognised):
            continue
        # That numbers are missing, or stand twice, is another check's.
        if event.seq <= state.last_seq:
            return
        if not isinstance(event.body, HistoryTrimmed):
            state.last_seq = event.seq - 1
        try:
            state.apply(event)
        except (KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            says = f"The session cannot be rebuilt from its journal: event {event.seq} ({event.body.type}): {reason}."
            yield Violation("P9", "cannot_be_folded", history.session_id, says, event.turn_id)
            return
        at_rest = not any(turn.running for turn in state.turns.values())
        for reader in readers:
            fault = reader.read(state.transcript, at_rest=at_rest)
            if fault is not None:
                says = f"{reader.provider} would refuse the conversation as it stands after event {event.seq}: {fault}."
                yield Violation("P9", "refused", history.session_id, says, event.turn_id)
        readers = [reader for reader in readers if not reader.complained]


@dataclass(slots=True)
class _Reader:
    """Reads a conversation as it grows, and complains once."""

    provider: str
    rules: TranscriptRules
    messages: int = 0
    complained: bool = False

    def read(self, transcript: list[Message], *, at_rest: bool) -> str | None:
        fault = None
        for message in transcript[self.messages :]:
            self.messages += 1
            fault = fault or self.rules.take(message)
        if at_rest:
            fault = fault or self.rules.rest()
        self.complained = fault is not None
        return fault
