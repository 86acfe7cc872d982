"""What the demo model says: who it is, what it can do, and tool results in sentences."""

import re
from collections.abc import Sequence

from .demo_asks import Talk, UseTool

ABILITIES = """\
- **compute**: `what is 2**100`, `the 20th Fibonacci number`, `sum of primes below 1000`, `mean of 3, 5 and 10`
- **run programs**: a fenced `python` block, or `run `ls -la``
- **work with files**: `write "hello" to notes.txt`, `read notes.txt`, `list files`
- **remember**: `remember that my dog is called Rex`, `what do you know about my dog?`
- **several things in a row**: join them with `and then`"""

SELF = "I am Greenroom's demo model: a small fixed program that needs no network and no key, not an intelligence."

_BEGINNINGS = {
    "run_python": "I will compute that with Python.",
    "run_shell": "I will run that in the sandbox.",
    "write_file": "I will write the file.",
    "read_file": "I will read the file.",
    "list_files": "I will look at the workspace.",
    "remember": "I will keep that.",
    "recall": "I will look in my memory.",
}
_GREETINGS = (
    (
        re.compile(r"^\W*(?:olá|ola|oi|bom dia|boa)\b", re.IGNORECASE),
        "Olá! Sou o modelo de demonstração do Greenroom: um programa fixo, sem rede. Entendo sobretudo inglês.",
    ),
    (
        re.compile(r"^\W*(?:hallo|guten|servus|moin)\b", re.IGNORECASE),
        "Hallo! Ich bin das Demo-Modell von Greenroom: ein festes Programm ohne Netz. Ich verstehe vor allem Englisch.",
    ),
)
_FAILED = re.compile(
    r"(?:^|\n)\[(?:It ended with|Stopped:|Killed:|The sandbox died)[^\n]*\]$"
    r"|^(?:Nothing was done|Not written|The arguments are not valid|There is no tool|The tool crashed|Stopped:)"
)
_QUOTED_CHARS = 200
_QUOTED_MESSAGES = 5


def beginning(ask: UseTool) -> str:
    """Said before the call."""
    return _BEGINNINGS.get(ask.tool, f"I will use {ask.tool}.")


def unavailable(ask: UseTool) -> str:
    """Said instead of the call, when the tool is not offered."""
    return f"I would use the tool `{ask.tool}` for that, but it is not offered here."


def result(ask: UseTool, content: str) -> str:
    """What a tool answered, as a person would say it."""
    if _FAILED.search(content):
        return f"`{ask.tool}` did not succeed:\n\n{_block(content)}"
    match ask.tool:
        case "run_python" if ask.says and "\n" not in content:
            return ask.says.replace("{}", f"**{content}**")
        case "run_python":
            return f"Python printed:\n\n{_block(content)}"
        case "run_shell":
            return f"`{_short(ask.arguments['command'])}` printed:\n\n{_block(content)}"
        case "read_file":
            return f"`{ask.arguments['path']}` holds:\n\n{_block(content)}"
        case "list_files":
            return f"In the workspace:\n\n{_block(content)}"
        case "remember":
            return f"I will remember this, in later sessions too: {ask.arguments['text']}"
        case "recall" if content.startswith("- "):
            return f"This is what I was told, the nearest first:\n\n{content}"
        case _:
            return content


def talk(ask: Talk, earlier: Sequence[str]) -> str:
    """An answer without tools. `earlier` are the user's messages before this one."""
    match ask.kind:
        case "greeting":
            hello = next((text for pattern, text in _GREETINGS if pattern.match(ask.text)), f"Hello! {SELF}")
            return f"{hello}\n\n{ABILITIES}"
        case "help":
            return f"{SELF} The sandbox, the files, the memory and the ledger are real. I can\n\n{ABILITIES}"
        case "thanks":
            return "You are welcome."
        case "history":
            return _history(earlier)
        case "cannot_compute":
            return f"I cannot translate that into Python: {SELF[0].lower() + SELF[1:]} What I can do:\n\n{ABILITIES}"
        case "other":
            echo = f"You wrote: “{_short(ask.text)}”. I have nothing to say about that."
            return f"{echo} {SELF} What I can do:\n\n{ABILITIES}"


def _history(earlier: Sequence[str]) -> str:
    if not earlier:
        return "Nothing yet: this is the first message of this session that I can see."
    lines = [f"{number}. {_short(text)}" for number, text in enumerate(earlier, start=1)]
    shown = lines[-_QUOTED_MESSAGES:]
    intro = "Before this you wrote:" if len(shown) == len(lines) else f"The last {len(shown)} things that you wrote:"
    return "\n".join([intro, "", *shown])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _QUOTED_CHARS else f"{text[: _QUOTED_CHARS - 1]}…"


def _block(content: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", content)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{content}\n{fence}"
