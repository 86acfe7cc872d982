"""Chaos: users talk to a real cluster while one fault after the other strikes it; then the history is checked.

python -m tests.chaos.run --seconds 600 --seed 7 --database postgresql
"""

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from rich.console import Console

from actors.core.clock import SystemClock
from cluster.verify import ClientLog

from . import schedule
from .client import Client
from .evidence import judge
from .journal import RECOVERING, gaps, internal_errors, statuses, turn_events, unfinished
from .nemesis import Nemesis, Strike
from .report import Report
from .saying import chat
from .servers import MissingProgram, answers_by_tag, require
from .testbed import Testbed
from .users import Features, User
from .waiting import eventually

SETTLE_S = 180.0
PROBE_S = 20.0
CONFLICTS = "agent_epoch_conflicts_total"


class Run:
    """One run on a testbed that is up."""

    def __init__(self, bed: Testbed, options: argparse.Namespace, log: ClientLog, console: Console) -> None:
        self._bed = bed
        self._options = options
        self._log = log
        self._console = console
        self._dice = random.Random(options.seed)
        self._http = httpx.AsyncClient(
            base_url=bed.url,
            headers={"authorization": f"Bearer {bed.key}"},
            trust_env=False,
            limits=httpx.Limits(max_connections=200),
        )
        features = Features(keys=options.keys, controls=options.controls)
        self._users = [User(self._client(f"u{n}"), features, watches=n % 2 == 0) for n in range(options.clients)]
        self._prober = self._client("probe")
        self._nemesis = Nemesis(bed, self._http, self._probe)
        self._report = Report(options.seed, options.database, options.clients)
        self._is_over = False

    def _client(self, name: str) -> Client:
        return Client(name, self._http, self._log, random.Random(self._dice.getrandbits(64)))

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                return await chat(self._prober, {"message": "Are you there?"}, keyed=False) is not None
        except TimeoutError:
            return False

    async def carry_out(self) -> Report:
        async with self._http:
            if (missing := await self._nemesis.recover()) is not None:
                raise RuntimeError(f"the cluster did not come up: {missing}")
            self._began = time.monotonic()
            async with asyncio.TaskGroup() as watchers:
                users = [watchers.create_task(user.live(lambda: self._is_over, watchers)) for user in self._users]
                await self._rage()
                await self._end(users)
                await self._settle()
        await self._conclude()
        return self._report

    async def _rage(self) -> None:
        end = self._began + self._options.seconds
        steps = schedule.steps(self._options.seed, self._options.faults)
        await self._nemesis.rage(steps, lambda: time.monotonic() > end, self._tell)
        self._report.strikes = self._nemesis.strikes
        self._report.seconds = time.monotonic() - self._began
        for strike in self._nemesis.strikes:
            if strike.recovered_s is None or not strike.injected:
                self._fail(f"{strike.kind} at {strike.at:%H:%M:%S}: {strike.says}")

    async def _end(self, users: Sequence[asyncio.Task[None]]) -> None:
        self._say("the faults are over; users end what they are at")
        self._is_over = True
        _, busy = await asyncio.wait(users, timeout=SETTLE_S)
        for task in busy:
            self._fail(f"a user did not come to an end within {SETTLE_S:g} s: {task.get_stack(limit=1)}")
            task.cancel()

        async def is_quiet() -> bool:
            return await unfinished(self._bed.database) == 0

        if not await eventually(is_quiet, within_s=SETTLE_S):
            open_turns = await unfinished(self._bed.database)
            self._fail(f"{open_turns} turns had no end {SETTLE_S:g} s after the last fault")

    async def _settle(self) -> None:
        self._say("every turn has ended; what tools did is counted, and every session is read once more")
        async with asyncio.TaskGroup() as group:
            for user in self._users:
                group.create_task(user.count_effects())
        self._report.fenced = await self._fenced()
        async with asyncio.TaskGroup() as group:
            readings = [group.create_task(user.read_all()) for user in self._users]
        for reading in readings:
            for behind in reading.result():
                self._fail(behind)

    async def _fenced(self) -> int:
        """Writes that were refused because another host had taken the session over, in processes that still live."""
        lines = (await self._http.get("/metrics", timeout=30)).text.splitlines()
        return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(CONFLICTS)))

    async def _conclude(self) -> None:
        self._say("the journal is checked")
        report, events = self._report, await turn_events(self._bed.database)
        report.events = len(events)
        report.turns = statuses(events)
        report.recoveries = sum(event.type == RECOVERING for event in events)
        report.gaps = gaps(events, [(strike.kind, strike.at) for strike in report.strikes if strike.injected])
        for client in (*(user.client for user in self._users), self._prober):
            report.counted += client.counted
        judgement = await judge(self._bed.database, self._log, await answers_by_tag(self._bed.model_server))
        for turn_id in await internal_errors(self._bed.database):
            self._fail(f"{turn_id} failed for an internal error")
        report.sessions, report.violations = judgement.sessions, judgement.violations
        report.effects, report.model_calls = judgement.effects, judgement.model_calls

    def _tell(self, strike: Strike) -> None:
        whole = "NOT WHOLE AGAIN" if strike.recovered_s is None else f"whole again after {strike.recovered_s:.1f} s"
        done = strike.target if strike.injected else "not done"
        self._say(f"{strike.kind} ({done}): {whole} {strike.says}")

    def _say(self, what: str) -> None:
        counted = [user.client.counted for user in self._users]
        turns, resumes = (sum(one[name] for one in counted) for name in ("accepted", "resumes"))
        self._console.print(
            f"[dim]{time.monotonic() - self._began:6.1f} s  {turns:5} accepted  {resumes:4} resumes[/]  ", what
        )

    def _fail(self, what: str) -> None:
        self._report.failures.append(what)
        self._console.print("[red]failed:[/]", what)


async def run(options: argparse.Namespace, console: Console) -> Report:
    out: Path = options.out
    _end_in_order()
    console.print(f"Chaos with seed {options.seed} on {options.database}: starting three nodes")
    with ClientLog(out / "client.jsonl", SystemClock()) as log:
        async with Testbed(out, options.database) as bed:
            report = await Run(bed, options, log, console).carry_out()
    (out / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    with (out / "report.txt").open("w") as file:
        report.show(Console(file=file, width=160))
    return report


def _end_in_order() -> None:
    """On SIGINT and SIGTERM this task is cancelled, so that all is ended that was started. Once: a second
    signal would interrupt that, and some send two."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: task.cancelling() or task.cancel())


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long faults strike; 600 by default")
    parser.add_argument("--seed", type=int, default=None, help="of faults and users; one is made up by default")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--clients", type=int, default=8, help="users at once; 8 by default")
    parser.add_argument("--faults", metavar="KIND,…", help="only these kinds of faults, e.g. 'kill gcs,two owners'")
    parser.add_argument("--keys", action=argparse.BooleanOptionalAction, default=True, help="Idempotency-Key")
    parser.add_argument("--controls", action=argparse.BooleanOptionalAction, default=True, help="pause, interrupt, …")
    parser.add_argument("--out", type=Path, help="folder of the report and the logs; in test-output by default")
    options = parser.parse_args(arguments)
    known = schedule.kinds(options.database)
    options.faults = tuple(options.faults.split(",")) if options.faults else known
    if unknown := [kind for kind in options.faults if kind not in known]:
        parser.error(f"there is no fault {unknown[0]!r} on {options.database}; there are: {', '.join(known)}")
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    if options.out is None:
        options.out = Path("test-output") / f"chaos-{options.database}-{options.seed}"
    options.out = options.out.absolute()
    return options


def main() -> None:
    options, console = parsed(), Console(highlight=False, soft_wrap=True)
    try:
        shutil.rmtree(options.out, ignore_errors=True)
        options.out.mkdir(parents=True)
        require(options.database)
        report = asyncio.run(run(options, console))
    except MissingProgram as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("Interrupted; everything that was started is ended.")
    report.show(console)
    console.print(f"Written to {options.out}")
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
