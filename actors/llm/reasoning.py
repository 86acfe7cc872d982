"""Reasoning blocks put together from their fragments, to be sent back to the model unchanged."""

from typing import Any

from .json_values import as_list, as_object, as_text

_TEXT_MEMBERS = ("text", "summary")


class ReasoningAssembler:
    """Fragments of one type and index are one block: their text is joined, other members are carried over.

    Encrypted blocks always come whole, so each stays a block of its own.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[dict[str, Any], dict[str, list[str]]]] = []
        self._by_key: dict[tuple[str, Any], int] = {}

    def feed(self, details: Any) -> str:
        """Take the fragments of one chunk; returns the text that they hold for people."""
        shown: list[str] = []
        for fragment in map(as_object, as_list(details)):
            kind = as_text(fragment.get("type"))
            if not kind:
                continue
            block, texts = self._block_of(kind, fragment.get("index"))
            for name, value in fragment.items():
                if name in _TEXT_MEMBERS and isinstance(value, str):
                    texts.setdefault(name, []).append(value)
                    shown.append(value)
                elif value is not None or name not in block:
                    block[name] = value
        return "".join(shown)

    def finish(self) -> tuple[dict[str, Any], ...]:
        return tuple(
            {**block, **{name: "".join(parts) for name, parts in texts.items()}} for block, texts in self._blocks
        )

    def _block_of(self, kind: str, index: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
        key = (kind, index if isinstance(index, int) else None)
        at = self._by_key.get(key)
        if kind == "reasoning.encrypted" or at is None or (key[1] is None and at != len(self._blocks) - 1):
            self._by_key[key] = at = len(self._blocks)
            self._blocks.append(({}, {}))
        return self._blocks[at]
