"""What can be asked of the demo model."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

TalkKind: TypeAlias = Literal["greeting", "help", "history", "thanks", "cannot_compute", "other"]


@dataclass(frozen=True, slots=True)
class UseTool:
    """Call `tool`. `says` is the sentence about its result, with `{}` for what it answered."""

    tool: str
    arguments: dict[str, str] = field(hash=False)
    says: str | None = None


@dataclass(frozen=True, slots=True)
class Talk:
    """Answer without a tool. `text` is what the user wrote."""

    kind: TalkKind
    text: str


Ask: TypeAlias = UseTool | Talk
