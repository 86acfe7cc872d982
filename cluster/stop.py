"""Ending a run: its supervisor by its pid, then whatever still carries the run's mark, and nothing else."""

import signal
from pathlib import Path

from . import launch, processes, run_state


def stop(home: Path, *, timeout_s: float) -> str:
    """Stop the run of this home folder and wait until it is gone. Says what was done; idempotent."""
    state = run_state.read(home)
    if state is None:
        return f"Nothing runs in {home}."
    supervisor = state.supervisor
    if not supervisor.is_alive():
        launch.sweep(home)
        return f"The run in {home} had ended by itself; what it left behind is removed."
    supervisor.send(signal.SIGTERM)
    if processes.wait_until(lambda: not supervisor.is_alive(), timeout_s=timeout_s):
        launch.sweep(home)
        return f"Stopped Greenroom in {home}."
    supervisor.send(signal.SIGKILL)
    processes.wait_until(lambda: not supervisor.is_alive(), timeout_s=5.0)
    launch.sweep(home)
    return f"Greenroom in {home} did not stop within {timeout_s:g} s and was killed. Unfinished turns will go on."
