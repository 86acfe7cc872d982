"""What a scripted model server is told to say: rules, replies, and how a script in JSON is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from .reply import Reply
from .wire_fixtures import FIXTURES


@dataclass(slots=True)
class Rule:
    """Replies to messages that hold `marker`.

    `by="step"`: the reply is chosen by how often the model has spoken since that message, so a repeated
    request gets the same reply; the last one stays. `by="call"`: each request takes the next reply, and
    the last one stays.
    """

    marker: str
    replies: tuple[Reply, ...]
    by: Literal["step", "call"] = "step"
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    replies: tuple[Reply, ...] = ()
    rules: tuple[Rule, ...] = ()
    otherwise: Reply | None = None
    models: tuple[str, ...] | None = None


def read_script(script: dict[str, Any]) -> Script:
    """See `ScriptedModelApp.from_json`. Raises ValueError."""
    unknown = script.keys() - {"replies", "rules", "otherwise", "models"}
    if unknown:
        raise ValueError(f"a script has no {', '.join(sorted(unknown))}")
    try:
        return Script(
            replies_of(script.get("replies", [])),
            tuple(_rule(rule) for rule in script.get("rules", [])),
            replies_of([script["otherwise"]])[0] if "otherwise" in script else None,
            tuple(script["models"]) if script.get("models") is not None else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the script has not the form of one: {type(error).__name__} {error}") from error


def replies_of(entries: Sequence[dict[str, Any]]) -> tuple[Reply, ...]:
    """Of entries that are replies, or name a fixture and stand for its replies."""
    replies: list[Reply] = []
    for entry in entries:
        if "fixture" not in entry:
            replies.append(Reply.from_json(entry))
        elif entry["fixture"] in FIXTURES:
            replies += FIXTURES[entry["fixture"]].replies
        else:
            raise ValueError(f"there is no fixture {entry['fixture']!r}; there are {', '.join(FIXTURES)}")
    return tuple(replies)


def last_user_message(request: dict[str, Any]) -> tuple[str, int]:
    """Its text, and how often the model has spoken since."""
    spoken = 0
    for message in reversed(cast("list[dict[str, Any]]", request.get("messages", []))):
        if message["role"] == "user":
            return str(message["content"]), spoken
        spoken += message["role"] == "assistant"
    return "", spoken


def _rule(rule: dict[str, Any]) -> Rule:
    by = rule.get("by", "step")
    if by not in ("step", "call"):
        raise ValueError(f"a rule chooses by step or by call, not by {by!r}")
    return Rule(rule["marker"], replies_of(rule["replies"]), by)
