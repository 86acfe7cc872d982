"""What attempts add up to, and how it is divided among groups and periods. Plain values and their arithmetic."""

from dataclasses import dataclass, field
from datetime import datetime

from ..core.messages import Usage
from .periods import Span


@dataclass(frozen=True, slots=True)
class Sums:
    """Attempts, added up: `calls` of models, and `uses` of tools, sandboxes and embeddings.

    `micros` are those of the attempts whose cost is known. `unknown` are the others, of whatever kind, and `held` the
    micro-dollars that budgets were charged for them meanwhile. `running` of them are not over yet.
    """

    calls: int = 0
    uses: int = 0
    unknown: int = 0
    running: int = 0
    micros: int = 0
    held: int = 0
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.calls + other.calls,
            self.uses + other.uses,
            self.unknown + other.unknown,
            self.running + other.running,
            self.micros + other.micros,
            self.held + other.held,
            self.usage + other.usage,
        )

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(
            self.calls - other.calls,
            self.uses - other.uses,
            self.unknown - other.unknown,
            self.running - other.running,
            self.micros - other.micros,
            self.held - other.held,
            self.usage - other.usage,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """What one user, model or session cost; `key` is None for all those together that are not named."""

    key: str | None
    sums: Sums


@dataclass(frozen=True, slots=True)
class Slice:
    """One period: in all, and by group. Groups without an attempt in it are left out."""

    begin: datetime
    end: datetime
    sums: Sums
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Costs:
    """A report: groups, the dearest first, sum up to `total`, and so do the slices."""

    span: Span
    total: Sums
    groups: tuple[Group, ...]
    slices: tuple[Slice, ...]


def with_others(named: list[Group], total: Sums) -> tuple[Group, ...]:
    """The groups, and the rest of the total as one more where there is a rest."""
    rest = total
    for group in named:
        rest -= group.sums
    return tuple(named) if rest == Sums() else (*named, Group(None, rest))


def sliced(span: Span, daily: list[tuple[datetime, str | None, Sums]]) -> tuple[Slice, ...]:
    """Days with their groups, put together to the periods of a report. A period without attempts is there, too."""
    found: list[dict[str | None, Sums]] = [{} for _ in span.begins]
    at = 0
    for day, key, sums in sorted(daily, key=lambda row: row[0]):
        while day >= span.ends[at]:
            at += 1
        found[at][key] = found[at].get(key, Sums()) + sums
    return tuple(
        Slice(begin, end, sum(groups.values(), Sums()), _ordered(groups))
        for begin, end, groups in zip(span.begins, span.ends, found, strict=True)
    )


def _ordered(groups: dict[str | None, Sums]) -> tuple[Group, ...]:
    made = [Group(key, sums) for key, sums in groups.items()]
    return tuple(sorted(made, key=lambda group: (group.key is None, -group.sums.micros, -group.sums.calls, group.key)))
