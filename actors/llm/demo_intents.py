"""What a message to the demo model asks for: plain patterns, tried one after another."""

import re
from collections.abc import Callable

from .demo_asks import Ask, Talk, TalkKind, UseTool
from .demo_workspace import (
    computation,
    fenced_program,
    file_to_read,
    file_to_write,
    files_to_list,
    first_group,
    python_line,
    shell_command,
)

_LONGEST_ASK = 4000


def asks_of(message: str) -> list[Ask]:
    """What the message asks for, in order. One part at least; parts are joined by `then` or `and then`.

    A very long message is only looked through for a program: the patterns below take time that grows
    with its square.
    """
    if len(message) > _LONGEST_ASK:
        return [fenced_program(message) or Talk("other", message)]
    parts = [_ask(part) for part in _parts(message)]
    if any(isinstance(part, UseTool) for part in parts):
        return parts
    return [_ask(message)]


_QUOTED = re.compile(r"```.*?```|`[^`\n]+`|\"[^\"\n]*\"|(?<!\w)'[^'\n]+'(?!\w)", re.DOTALL)
_JOINT = re.compile(
    r"[\s,;.]+(?:and\s+)?(?:then|after that|afterwards|e depois|depois|und dann|danach)[\s,:]+", re.IGNORECASE
)


def _parts(message: str) -> list[str]:
    """The message cut at its joints, but never inside quotes and code."""
    quoted: list[str] = []

    def hide(match: re.Match[str]) -> str:
        quoted.append(match[0])
        return f"\0{len(quoted) - 1}\0"

    hidden = _QUOTED.sub(hide, message.replace("\0", ""))
    parts = [re.sub(r"\0(\d+)\0", lambda match: quoted[int(match[1])], part) for part in _JOINT.split(hidden)]
    return [part.strip() for part in parts if part.strip()] or [message]


def _ask(text: str) -> Ask:
    for recognise in _RECOGNISERS:
        ask = recognise(text)
        if ask is not None:
            return ask
    return Talk("other", text)


# Memory ---------------------------------------------------------------------------------------------

_REMEMBER = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"^(?:please |can you )*(?:remember|memori[sz]e|note|keep in mind|don'?t forget)(?: that|:)?\s+(.+)$",
        r"^(?:por favor,? )?(?:lembre|lembra)(?:-se)?(?: de)?(?: que|:)?\s+(.+)$",
        r"^(?:bitte )?merk(?:e)? dir,?(?: dass|:)?\s+(.+)$",
    )
]
_NAME = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:my name is|call me|i am called)\s+([^\W\d][\w' -]{0,60})",
        r"\b(?:meu nome é|me chamo)\s+([^\W\d][\w' -]{0,60})",
        r"\b(?:ich heiße|ich heisse|mein name ist)\s+([^\W\d][\w' -]{0,60})",
    )
]
_RECALL = re.compile(
    r"^(?:please )?(?:recall\b|do you (?:remember|know)\b|what do you (?:know|remember)\b|what have i told you"
    r"|(?:tell me )?(?:what|who|where|when|which|how old|how many|how tall)\b.*\b(?:my|am i|do i)\b"
    r"|qual é (?:o )?meu|o que (?:você )?sabe|wie heiße ich|was weißt du|wie ist mein)",
    re.IGNORECASE,
)


_PERSONS = ((r"my\b", "The user's"), (r"i am\b|i'm\b", "The user is"), (r"i have\b|i've\b", "The user has"))


def _remember(text: str) -> Ask | None:
    said = first_group(_REMEMBER, text)
    if said and not text.rstrip().endswith("?"):
        return UseTool("remember", {"text": _fact(said)})
    name = first_group(_NAME, text)
    return UseTool("remember", {"text": f"The user's name is {name.strip()}."}) if name else None


def _recall(text: str) -> Ask | None:
    return UseTool("recall", {"query": text.strip()}) if _RECALL.match(text.strip()) else None


def _fact(said: str) -> str:
    """A sentence that is understood alone: `my dog is Rex` is nobody's dog."""
    said = said.strip().rstrip(".!")
    for first, third in (
        (r"my\b", "The user's"),
        (r"i am\b|i'm\b", "The user is"),
        (r"i have\b|i've\b", "The user has"),
    ):
        changed, count = re.subn(rf"^(?:{first})", third, said, flags=re.IGNORECASE)
        if count:
            return f"{changed}."
    return f"The user said: {said}."


# Talk -----------------------------------------------------------------------------------------------

_TALK: tuple[tuple[TalkKind, re.Pattern[str]], ...] = (
    (
        "history",
        re.compile(
            r"\bwhat (?:did|have) i (?:just |already )?(?:say|said|ask|asked|write|written|told|tell)\b"
            r"|\bwhat was my (?:last|previous|first) (?:message|question)"
            r"|\bo que eu (?:disse|perguntei)|\bwas habe ich (?:gesagt|gefragt)",
            re.IGNORECASE,
        ),
    ),
    ("thanks", re.compile(r"^\W*(?:thanks|thank you|thx|obrigad[oa]|danke)\b", re.IGNORECASE)),
    (
        "help",
        re.compile(r"^\W*(?:help|ajuda|hilfe)\b|\bwhat can you do|\bwho are you|\bwhat are you\b", re.IGNORECASE),
    ),
    (
        "greeting",
        re.compile(
            r"^\W*(?:hi|hello|hey|good (?:morning|afternoon|evening)|olá|ola|oi|bom dia|boa (?:tarde|noite)"
            r"|hallo|guten (?:tag|morgen|abend)|servus|moin)\b[^?]{0,40}$",
            re.IGNORECASE,
        ),
    ),
)


def _talk(text: str) -> Ask | None:
    return next((Talk(kind, text) for kind, pattern in _TALK if pattern.search(text)), None)


def _history(text: str) -> Ask | None:
    talk = _talk(text)
    return talk if isinstance(talk, Talk) and talk.kind == "history" else None


# The first that recognises the text wins, so the narrower ones come before the wider ones.
_RECOGNISERS: tuple[Callable[[str], Ask | None], ...] = (
    _history,
    file_to_write,
    fenced_program,
    python_line,
    shell_command,
    files_to_list,
    _remember,
    file_to_read,
    computation,
    _recall,
    _talk,
)
