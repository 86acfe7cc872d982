"""What a run came to, as text for people and as JSON for others."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.verify import Violation

from .journal import Gap, percentile
from .nemesis import Strike


@dataclass
class Report:
    """Figures of one run. `failures` are what went wrong besides broken promises: it is a bad run too."""

    seed: int
    database: str
    clients: int
    seconds: float = 0.0
    strikes: list[Strike] = field(default_factory=list[Strike])
    turns: Counter[str] = field(default_factory=Counter[str])
    recoveries: int = 0
    gaps: list[Gap] = field(default_factory=list[Gap])
    counted: Counter[str] = field(default_factory=Counter[str])
    fenced: int = 0
    """Writes of hosts that had been overtaken, as far as their processes lived to tell."""
    sessions: int = 0
    events: int = 0
    effects: int = 0
    """Effects of tools that were counted in their sandboxes."""
    model_calls: int = 0
    """Turns whose model calls were counted at the model server."""
    violations: Sequence[Violation] = ()
    failures: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        return not self.violations and not self.failures

    @property
    def faults(self) -> Counter[str]:
        """Faults that were done, by kind."""
        return Counter(strike.kind for strike in self.strikes if strike.injected)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "seed": self.seed,
            "database": self.database,
            "clients": self.clients,
            "seconds": round(self.seconds, 1),
            "faults": dict(sorted(self.faults.items())),
            "turns": dict(self.turns),
            "sessions": self.sessions,
            "events": self.events,
            "recoveries": self.recoveries,
            "writes_refused": self.fenced,
            "effects_counted": self.effects,
            "turns_with_model_calls_counted": self.model_calls,
            "clients_counted": dict(sorted(self.counted.items())),
            "next_event_after_fault_s": _next_event(self.gaps),
            "cluster_whole_again_s": _recovery(self.strikes),
            "violations": [asdict(violation) for violation in self.violations],
            "failures": self.failures,
            "strikes": [{**asdict(strike), "at": strike.at.isoformat()} for strike in self.strikes],
        }

    def show(self, console: Console) -> None:
        said = self.as_json()
        head = f"{self.database}, seed {self.seed}, {self.seconds:.0f} s, {self.clients} clients"
        table = Table("What", "Figures", title=f"Chaos: {head}")
        table.add_row("Faults", f"{self.faults.total()}: {_listed(self.faults)}")
        table.add_row("Turns", _listed(self.turns))
        table.add_row("In the journal", f"{self.sessions} sessions, {self.events} events")
        table.add_row("Turns taken over", f"{self.recoveries}; writes of an old owner that were refused: {self.fenced}")
        table.add_row("Counted outside", f"{self.effects} effects of tools, model calls of {self.model_calls} turns")
        table.add_row("Clients", _listed(self.counted))
        for title, figures in (
            ("Fault to a turn's next event, s", said["next_event_after_fault_s"]),
            ("Cluster whole again, s", said["cluster_whole_again_s"]),
        ):
            for name, values in figures.items():
                table.add_row(f"{title}: {name}", "  ".join(f"{key}={value}" for key, value in values.items()))
        console.print(table)
        for violation in self.violations:
            console.print(f"[red]{violation.promise} {violation.rule}[/] {violation.session_id}: ", violation.says)
        for failure in self.failures:
            console.print("[red]Failed:[/]", failure)
        console.print("[green]No violations.[/]" if self.ok else f"[red]{len(self.violations)} violations.[/]")


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))


def _figures(values: Sequence[float]) -> dict[str, float | int]:
    shown = {"n": len(values), "p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}
    return {name: round(value, 2) for name, value in shown.items() if value is not None}


def _next_event(gaps: Sequence[Gap]) -> dict[str, Any]:
    by_kind: defaultdict[str, list[float]] = defaultdict(list)
    for gap in gaps:
        by_kind[gap.kind].append(gap.seconds)
    return {
        "all turns that ran": _figures([gap.seconds for gap in gaps]),
        "turns that were taken over": _figures([gap.seconds for gap in gaps if gap.recovered]),
        **{kind: _figures(values) for kind, values in sorted(by_kind.items())},
    }


def _recovery(strikes: Sequence[Strike]) -> dict[str, Any]:
    by_kind: defaultdict[str, list[float]] = defaultdict(list)
    for strike in strikes:
        if strike.recovered_s is not None:
            by_kind[strike.kind].append(strike.recovered_s)
    return {
        "all faults": _figures([s for values in by_kind.values() for s in values]),
        **{kind: _figures(values) for kind, values in sorted(by_kind.items())},
    }
