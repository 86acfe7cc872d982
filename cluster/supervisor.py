"""The one process that owns a run. `launch.py` starts it as `python -m cluster.supervisor`, with the run's
environment, which has to be there before Ray is imported.
"""

import argparse
import fcntl
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from . import ports, processes, run_dir, run_state
from .environment import read_settings
from .run import Phases, Run
from .run_state import RunState

_logger = logging.getLogger("greenroom.supervisor")


def _own_terminal(log: Path, *, detached: bool) -> Console:
    """A console on the terminal; everything else that this process and its children print goes to the log."""
    # Detached, nobody watches: who started it prints the report, whose sign-in link belongs in no log.
    console = Console(file=os.fdopen(os.dup(1), "w", buffering=1), quiet=detached)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("greenroom").setLevel(logging.INFO)
    return console


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster.supervisor", description="Started by `greenroom up`.")
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--run-dir", required=True, type=Path)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--ray-token-file", required=True, type=Path)
    parser.add_argument("--since-ticks", required=True, type=int)
    parser.add_argument("--no-dashboard", action="store_true")
    parser.add_argument("--detached", action="store_true")
    parser.add_argument("--timings", action="store_true")
    arguments = parser.parse_args()
    settings = read_settings()
    console = _own_terminal(arguments.log, detached=arguments.detached)
    with (settings.home_dir / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            run_dir.remove(arguments.run_dir, settings.home_dir)
            reason = f"another one was started in {settings.home_dir} at the same time; see `greenroom status`"
            console.print(f"{run_state.FAILED}{reason}", style="red")
            _logger.error("%s%s", run_state.FAILED, reason)  # noqa: TRY400 - the reason is known
            return 1
        own = processes.process(os.getpid())
        assert own is not None
        state = RunState(
            run_id=arguments.run_id,
            pid=own.pid,
            started=own.started,
            state="starting",
            host=settings.host,
            port=settings.port,
            url=ports.url(settings.host, settings.port),
            namespace=settings.namespace,
            run_dir=str(arguments.run_dir),
            log=str(arguments.log),
            admin_key_file=str(settings.admin_key_file),
            ray_token_file=str(arguments.ray_token_file),
            dashboard_url=None if arguments.no_dashboard else ports.url("127.0.0.1", settings.dashboard_port),
            version=version("greenroom"),
        )
        phases = Phases(arguments.since_ticks)
        run = Run(settings, state, console, phases, dashboard=not arguments.no_dashboard)
        return run.carry_out(timings=arguments.timings)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # a thread that still waits for a part that is gone must not hold up the end
