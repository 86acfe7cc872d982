"""A run from its start to its end: Ray, the actors and HTTP are started, watched, and stopped in order."""

import asyncio
import logging
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from actors.core.errors import GreenroomError
from actors.core.settings import Settings

from . import probe, processes, run_dir, run_state
from .head import Head
from .report import print_report
from .run_state import RunState

if TYPE_CHECKING:
    from .boot import Boot

START_S = 120.0
SANDBOX_S = 20.0
GRACE_S = 20.0
"""Running turns get so long to end when the run is stopped; a second signal ends the wait."""

_POLL_S = 0.05
_WATCH_S = 1.0
_RAISED = re.compile(r"[\w.]+(Error|Exception): ")
_REASON_CHARS = 600
_logger = logging.getLogger("greenroom.run")


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end. Of this kind because asyncio lets it through, and nothing else."""


class StartFailed(Exception):
    """The run did not come up, or did not stay up; the message says why."""


class Phases:
    """Seconds from the moment the command was typed to the end of each phase."""

    def __init__(self, since_ticks: int) -> None:
        self._since_s = since_ticks / os.sysconf("SC_CLK_TCK")
        self.reached: dict[str, float] = {}

    def mark(self, name: str) -> None:
        self.reached[name] = round(time.clock_gettime(time.CLOCK_BOOTTIME) - self._since_s, 2)
        _logger.info("%.2f s: %s", self.reached[name], name)


class Run:
    """One run. It belongs to the main thread, with which Ray's processes end."""

    def __init__(
        self, settings: Settings, state: RunState, console: Console, phases: Phases, *, dashboard: bool
    ) -> None:
        self._settings = settings
        self._state = state
        self._console = console
        self._phases = phases
        self._dashboard = dashboard
        self._head: Head | None = None
        self._boot: Boot | None = None
        self._failure: str | None = None

    def carry_out(self, *, timings: bool) -> int:
        """Returns the exit code: 0 after a signal, 1 when something failed."""
        _heed_signals(_stop)
        try:
            with _spinner(self._console):
                self._start()
            print_report(self._console, self._state, timings=timings)
            self._console.print("Ctrl-C stops it.", style="dim")
            self._watch()
        except Stopped:
            return 0
        except Exception as error:  # the border: whatever it is, the operator gets one line and a log
            _logger.exception("the run failed")
            self._failure = _reason(error)
            return 1
        finally:
            self._stop()
        return 0

    def _start(self) -> None:
        self._publish(self._state)
        self._phases.mark("Python")
        with _Threads() as threads:
            # The runtime's modules load, and the database gets ready, while Ray starts.
            loading = threads.submit(_load, self._settings)
            preparing = threads.submit(lambda: loading.result().prepare())
            self._head = Head(
                temp_dir=run_dir.ray_dir(Path(self._state.run_dir)),
                dashboard=self._dashboard,
                dashboard_port=self._settings.dashboard_port,
                session_slots=self._settings.session_actors_max_per_node,
            )
            self._phases.mark("Ray")
            self._head.connect(self._settings.namespace)
            _heed_signals(_stop)  # Ray put a handler of its own on SIGTERM
            self._phases.mark("driver")
            self._boot = loading.result(START_S)
            preparing.result(START_S)
            self._phases.mark("database")
            deploying = threads.submit(self._boot.deploy)
            asyncio.run(self._boot.start_actors())
            self._phases.mark("actors")
            self._await_ready(deploying)
        self._phases.mark("ready")
        asyncio.run(self._boot.warm_actors())
        health = self._settled_health()
        self._publish(
            replace(
                self._state,
                state="ready",
                ray_address=self._head.address,
                parts=self._boot.parts(health),
                phases=self._phases.reached,
            )
        )

    def _settled_health(self) -> dict[str, Any]:
        """GET /health once the sandbox has said what isolation it reached, which may be after /ready."""
        deadline = time.monotonic() + SANDBOX_S
        while True:
            health = probe.get_json(self._settings.host, self._settings.port, "/health") or {}
            loading = any(check.get("loading") for check in health.get("checks", ()))
            if not loading or time.monotonic() > deadline:
                return health
            time.sleep(_POLL_S)

    def _await_ready(self, deploying: Future[None]) -> None:
        assert self._boot is not None
        deadline = time.monotonic() + START_S
        ask_serve_at = time.monotonic() + 5.0
        while not probe.is_ready(self._settings.host, self._settings.port):
            if deploying.done():
                deploying.result()
            self._check_head()
            if time.monotonic() > ask_serve_at:
                ask_serve_at += 1.0
                if (problem := self._boot.problem()) is not None:
                    _logger.error("%s", problem)
                    raise StartFailed(f"the HTTP application does not start: {problem.strip().splitlines()[-1]}")
            if time.monotonic() > deadline:
                report = probe.get_json(self._settings.host, self._settings.port, "/ready")
                raise StartFailed(f"not ready within {START_S:g} s; /ready says: {report or 'nothing'}")
            time.sleep(_POLL_S)
        deploying.result(START_S)

    def _watch(self) -> None:
        while True:
            time.sleep(_WATCH_S)
            self._check_head()

    def _check_head(self) -> None:
        if self._head is not None and (name := self._head.lost()) is not None:
            raise StartFailed(f"Ray's process {name} ended by itself")

    def _stop(self) -> None:
        _heed_signals(signal.SIG_IGN)
        self._publish(self._state.with_state("stopping"))
        self._console.print("Stopping; running turns get some seconds to end …", style="dim")
        if self._boot is not None and self._head is not None and self._head.lost() is None:
            self._attempt("drain", self._drain)
            self._attempt("serve", self._boot.stop_serving)
        if self._head is not None:
            self._attempt("ray", self._head.stop)
        self._attempt("left over", lambda: processes.end(processes.of_run(self._state.run_id), grace_s=2.0))
        self._attempt("folder", lambda: run_dir.remove(Path(self._state.run_dir), self._settings.home_dir))
        run_state.remove(self._settings.home_dir, self._state.run_id)
        if self._failure is None:
            self._console.print("Stopped.", style="dim")
        else:
            self._console.print(f"{run_state.FAILED}{self._failure}", style="red", markup=False, soft_wrap=True)
            logs = f"{self._state.log} and {run_dir.ray_logs(self._settings.home_dir)}"
            self._console.print(f"More in {logs}", markup=False, soft_wrap=True)
            _logger.error("%s%s", run_state.FAILED, self._failure)

    def _drain(self) -> None:
        assert self._boot is not None
        try:
            _heed_signals(_stop)
            asyncio.run(self._boot.drain(GRACE_S))
        except Stopped:
            _logger.info("a second signal: running turns are not waited for")
        finally:
            _heed_signals(signal.SIG_IGN)

    def _attempt(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception:  # the next step has to be taken whatever became of this one
            _logger.exception("stopping: %s failed", name)

    def _publish(self, state: RunState) -> None:
        self._state = state
        run_state.write(self._settings.home_dir, state)


class _Threads(ThreadPoolExecutor):
    """Threads that are not waited for when the main thread gives up."""

    def __init__(self) -> None:
        super().__init__(3, "start")

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=False, cancel_futures=True)


def _load(settings: Settings) -> "Boot":
    # Loading the runtime takes a second, in which Ray can start.
    from .boot import Boot  # noqa: PLC0415

    return Boot(settings)


def _spinner(console: Console) -> Live:
    # Without redirection: what libraries print belongs into the log and not on the terminal.
    spinner = Spinner("dots", "Starting …")
    return Live(spinner, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def _reason(error: Exception) -> str:
    """One line; of Ray's errors, which carry the traceback of another process, what stands below it."""
    if isinstance(error, StartFailed | GreenroomError):
        return str(error)
    lines = str(error).strip().splitlines()
    raised = [number for number, line in enumerate(lines) if _RAISED.match(line)]
    told = "; ".join(line.strip() for line in lines[raised[-1] :]) if raised else "".join(lines[-1:])
    return f"{type(error).__name__}: {told[:_REASON_CHARS]}"


def _heed_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup: the terminal may go
        signal.signal(signal.SIGHUP, handler)


def _stop(_number: int, _frame: object) -> None:
    raise Stopped
