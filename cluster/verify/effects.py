"""P6 outside the journal: what tools did in the world, as somebody counted it there."""

from collections.abc import Iterator

from .client_view import ClientView
from .history import History
from .violations import Violation


def check_effects(history: History, clients: ClientView) -> Iterator[Violation]:
    for effects in clients.effects.get(history.session_id, ()):
        if effects.count > 1:
            says = f"The effect {effects.effect!r} of one tool call happened {effects.count} times."
            yield Violation("P6", "effect_repeated", history.session_id, says, effects.turn_id)
