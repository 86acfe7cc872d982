"""Every figure of Greenroom beside its baseline, as a table and as JSON: `make bench`.

Machines differ and are noisy, so ratios within one run say more than absolute figures. Nothing is asserted.
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import cluster, in_process, journal, ledger, model_client, over_http, recovery, sandboxes

Results = dict[str, Any]

console = Console()


def run() -> Results:
    results: Results = {"machine": {"cores": os.cpu_count(), "python": platform.python_version()}}
    with console.status("One process: turns, activation, memory"):
        results["in one process: a turn"] = asyncio.run(in_process.turn_ms())
        results["activation of a passivated session"] = asyncio.run(in_process.activation_ms())
        results["an idle resident session"] = asyncio.run(in_process.resident_bytes())
    with console.status("Journal"):
        results["an append to the journal"] = journal.append_ms()
        results["what a turn leaves in the journal"] = asyncio.run(journal.bytes_per_turn())
    with console.status("Ledger"):
        results["a budget: reserve, dispatch, settle"] = ledger.pair_ms()
    with console.status("Sandbox"):
        results["sandbox"] = asyncio.run(sandboxes.measure())
    with tempfile.TemporaryDirectory() as folder:
        script = over_http.script(Path(folder))
        with cluster.model_server(script) as model_url, cluster.baseline(model_url) as bare_url:
            with console.status("The client of models"):
                results["the client of models, beside httpx"] = asyncio.run(model_client.measure(model_url))
            with console.status("The bare application"):
                bare = {n: asyncio.run(over_http.bare(bare_url, n)) for n in over_http.CLIENTS}
                bare_stream = {n: asyncio.run(over_http.bare_streams(bare_url, n)) for n in (1, 16)}
            with console.status("Greenroom: cold start"), cluster.greenroom(model_url) as greenroom:
                results["cold start, greenroom up to /ready"] = {"s": greenroom.cold_start_s}
                with console.status("Greenroom: turns over HTTP"):
                    ours = {n: asyncio.run(over_http.turns(greenroom, n)) for n in over_http.CLIENTS}
                    our_stream = {n: asyncio.run(over_http.streams(greenroom, n)) for n in (1, 16)}
                with console.status("Greenroom: kill -9"):
                    results["from kill -9 of a turn's process to its next event"] = recovery.measure(greenroom)
                    results["a session actor's process"] = recovery.process_mib(greenroom)
    results["turns over HTTP"] = {
        f"{n} clients": {
            **ours[n].as_dict(),
            "bare_p50_ms": bare[n].p50_ms,
            "bare_per_s": bare[n].per_s,
            "overhead_p50_ms": round(ours[n].p50_ms - bare[n].p50_ms, 2),
        }
        for n in over_http.CLIENTS
    }
    results[f"streams of {over_http.DELTAS} deltas"] = {
        f"{n} clients": {
            "p50_ms": our_stream[n].p50_ms,
            "us_per_delta": round(our_stream[n].p50_ms / over_http.DELTAS * 1000, 1),
            "bare_p50_ms": bare_stream[n].p50_ms,
            "bare_us_per_delta": round(bare_stream[n].p50_ms / over_http.DELTAS * 1000, 1),
        }
        for n in (1, 16)
    }
    return results


def show(results: Results) -> None:
    table = Table("What", "Figures", title="Greenroom benchmark")
    for name, figures in results.items():
        if figures and all(isinstance(value, dict) for value in figures.values()):
            for part, inner in figures.items():
                table.add_row(f"{name}: {part}", _line(inner))
        else:
            table.add_row(name, _line(figures))
    console.print(table)


def _line(figures: dict[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in figures.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures are written")
    arguments = parser.parse_args()
    results = run()
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    show(results)
    console.print(f"Written to {arguments.json}")


if __name__ == "__main__":
    main()
