"""Which fault comes when: a seeded order in which every kind comes once before any comes again."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

STOPPED_S = 12.0
"""A process that stands still does so for longer than any deadline by which it is given up."""

ALWAYS = (
    "kill session actor",
    "kill directory actor",
    "kill sandbox actor",
    "kill replica",
    "kill haproxy",
    "kill haproxy manager",
    "kill serve controller",
    "kill raylet",
    "kill gcs",
    "kill redis",
    "stop session actor",
    "stop directory actor",
    "stop sandbox actor",
    "stop replica",
    "stop haproxy",
    "stop raylet",
    "stop gcs",
    "stop redis",
    "cut model",
    "stall model",
    "delay model",
    "two owners",
)
POSTGRESQL = ("restart postgresql", "cut database", "stall database", "delay database")
"""Faults that there are with a database server only."""


def kinds(database: str) -> tuple[str, ...]:
    return (*ALWAYS, *(POSTGRESQL if database == "postgresql" else ()))


@dataclass(frozen=True, slots=True)
class Step:
    """One fault. `pause_s` passes before it; `hold_s` is how long a process stands still or a line is down."""

    kind: str
    pause_s: float
    hold_s: float
    pick: float
    """Which of the processes that it may hit, as a fraction of them."""


def steps(seed: int, chosen: Sequence[str]) -> Iterator[Step]:
    """Faults without end. The same seed and kinds give the same ones."""
    dice = random.Random(seed)
    while True:
        for kind in dice.sample(chosen, k=len(chosen)):
            yield Step(kind, dice.uniform(1.0, 4.0), _hold_s(kind, dice), dice.random())


def _hold_s(kind: str, dice: random.Random) -> float:
    """Seconds that the fault lasts."""
    verb = kind.partition(" ")[0]
    if verb == "stop":
        return STOPPED_S
    # Of lost networks the short ones, which no deadline notices, do harm as well as the long ones.
    return round(dice.choice((dice.uniform(0.2, 2.0), dice.uniform(6.0, 12.0))), 1)
