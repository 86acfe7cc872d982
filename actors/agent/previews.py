"""What is being written at this moment: text that is shown early and never stored.

Readers ask from the offset they have, so a reader that comes late gets the whole text so far in one
piece, and one that lost its connection gets nothing twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..core.events import MessageDelta, Preview, ReasoningDelta, ToolProgress

Kind: TypeAlias = Literal["message.delta", "reasoning.delta", "tool.progress"]
Seen: TypeAlias = Mapping[str, int]
"""What a reader has: characters by `<kind>:<id>`."""

TOOL_PREVIEW_CHARS = 64 * 1024
"""Live output of one tool that is kept; the end of a longer one is seen when the tool has ended."""


@dataclass(slots=True)
class _Live:
    turn_id: str
    item_id: str
    kind: Kind
    pieces: list[str] = field(default_factory=list[str])
    length: int = 0

    def text(self) -> str:
        # Joined on demand and kept joined: readers come less often than deltas.
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


@dataclass(slots=True)
class Previews:
    """The live items of one session: at most a message, its reasoning, and a tool's output."""

    _live: dict[str, _Live] = field(default_factory=dict[str, _Live])

    def add(self, kind: Kind, turn_id: str, item_id: str, text: str) -> None:
        """Text came. Nothing is promised of output beyond the tool's cap."""
        key = f"{kind}:{item_id}"
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = _Live(turn_id, item_id, kind)
        if kind == "tool.progress":
            text = text[: max(0, TOOL_PREVIEW_CHARS - live.length)]
        if text:
            live.pieces.append(text)
            live.length += len(text)

    def text(self, kind: Kind, item_id: str) -> str:
        """An item as far as it is kept."""
        live = self._live.get(f"{kind}:{item_id}")
        return live.text() if live else ""

    def clear(self) -> None:
        """The items are complete, or given up: events tell the rest."""
        self._live.clear()

    def since(self, seen: Seen) -> tuple[Preview, ...]:
        """What a reader has not seen."""
        return tuple(
            _preview(live, offset) for key, live in self._live.items() if live.length > (offset := seen.get(key, 0))
        )

    def still(self, seen: Seen) -> dict[str, int]:
        """What a reader has of the items that are still being written."""
        return {key: seen[key] for key in self._live if key in seen}

    def positions(self) -> dict[str, int]:
        """What a reader of all of it has."""
        return {key: live.length for key, live in self._live.items()}


def _preview(live: _Live, offset: int) -> Preview:
    text = live.text()[offset:]
    match live.kind:
        case "message.delta":
            return MessageDelta(live.turn_id, live.item_id, offset, text)
        case "reasoning.delta":
            return ReasoningDelta(live.turn_id, live.item_id, offset, text)
        case "tool.progress":
            return ToolProgress(live.turn_id, live.item_id, offset, text)
