"""What clients say: directives to the scripted model server, each with a tag that is found again afterwards."""

import json
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

WORDS = ("One ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight ", "nine ", "ten ")
TOOL = "run_python"
EFFECTS = "effects.txt"


def short(tag: str, dice: random.Random) -> str:
    """An answer at once."""
    return _directive(tag, {"text": ["Yes, ", tag], "delay_s": round(dice.uniform(0, 0.3), 2)})


def slow(tag: str, dice: random.Random) -> str:
    """An answer of some seconds, word by word."""
    return _directive(tag, {"text": WORDS, "gap_s": round(dice.uniform(0.2, 0.6), 2)})


def broken(tag: str, dice: random.Random) -> str:
    """An answer that breaks off: the turn asks again, and fails in the end."""
    return _directive(tag, {"text": WORDS, "cut_after": dice.randrange(len(WORDS)), "ending": "reset"})


def tool(tag: str, dice: random.Random) -> str:
    """Runs a program in the sandbox whose effect can be counted: it writes its tag to a file, and shows the file."""
    return _directive(
        tag,
        {"tool_calls": [_append(f"{tag}-a", dice.choice((0.0, dice.uniform(1, 4))))]},
        {"text": ["That ", "is ", "done."], "gap_s": 0.1},
    )


def tools(tag: str, dice: random.Random) -> str:
    """Two programs in one answer, and one more in the next."""
    return _directive(
        tag,
        {"tool_calls": [_append(f"{tag}-a", dice.uniform(0, 1)), _append(f"{tag}-b", dice.uniform(0, 1))]},
        {"text": ["Once ", "more."], "tool_calls": [_append(f"{tag}-c", dice.uniform(0, 1))]},
        {"text": ["All ", "done."]},
    )


def count(tag: str) -> str:
    """Shows the file, so that what was done since it was last shown is seen too."""
    return _directive(tag, {"tool_calls": [_append(f"{tag}-z", 0)]}, {"text": ["Counted."]})


KINDS = (short, short, slow, slow, broken, tool, tool, tools)
"""Chosen from evenly, so what stands twice comes twice as often."""


def effects(shown: Iterable[str]) -> dict[str, int]:
    """How often each effect was seen: the most in any showing of the file, which starts anew with its sandbox."""
    most: Counter[str] = Counter()
    for text in shown:
        for effect, times in Counter(text.split()).items():
            most[effect] = max(most[effect], times)
    return {effect: times for effect, times in most.items() if effect.startswith("fx-")}


def _append(effect: str, seconds: float) -> dict[str, Any]:
    code = (
        "import time\n"
        f"with open({EFFECTS!r}, 'a') as file:\n    file.write('fx-{effect}\\n')\n"
        f"time.sleep({seconds:.2f})\n"
        f"print(open({EFFECTS!r}).read())\n"
    )
    return {"id": f"call-{effect}", "name": TOOL, "arguments": json.dumps({"code": code})}


def _directive(tag: str, *replies: dict[str, Any]) -> str:
    # The server knows a directive by how it begins.
    return json.dumps({"replies": replies, "tag": tag})
