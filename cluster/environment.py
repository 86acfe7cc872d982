"""The environment of every process of a run: Ray reads most of its settings here, before it starts.

Several clusters may share a machine, so every file and port is the run's own, and what can be bound to
loopback is.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from actors.core.settings import Settings, inherited_environment

from .ports import free_ports
from .processes import RUN_MARK

_DROPPED = (
    "PYTHONDONTWRITEBYTECODE",  # Ray starts two to three times slower without compiled files
    "RAY_ADDRESS",  # the address of some other cluster
)

_RELOAD_SURVIVAL_S = 24 * 3600
"""HAProxy ends the streams of a configuration that was replaced after so long; Ray's default is 120 s."""


FAULT_DETECTION = {
    # A call to a process that was killed fails after 0.2 to 0.4 s; by default after 1.2 to 1.8 s. The directory keeps a
    # call open to every session actor, so this is how soon it learns that one is gone.
    "RAY_timeout_ms_task_wait_for_death_info": "200",
    "RAY_core_worker_internal_heartbeat_ms": "200",
    # A machine counts as lost after 4 s where its connections break, and after 24 s where it says nothing at all; by
    # default after 15 s and 65 s. Only then does Ray start elsewhere what ran there: the directory, the memory actor.
    # Turns do not wait for it. A machine that swaps must not be taken for lost, so the second is not cut further.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
    # While the head is away the machines wait for it this long, then they end; by default 60 s.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
}
"""For every process of a cluster, on every machine."""

RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    **FAULT_DETECTION,
}
"""How Ray is run, on one machine and on many."""

SERVE = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(_RELOAD_SURVIVAL_S),
    # It follows the setting above by default, and would keep the ports of replaced replicas for a day.
    "RAY_SERVE_PORT_QUARANTINE_S": "150",
    # By default a proxy has 5 s to start, and is killed on a machine that is busy.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
    # An HAProxy that died is replaced after three checks that failed: 6 s without HTTP, 30 s by default.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
}
"""How Serve is run, on one machine and on many."""

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""A file named like a package of ours in the working directory must not be imported."""


class WrongSettings(Exception):
    """A setting has a value that it cannot have; the message names its variable."""


def read_settings(**given: Any) -> Settings:
    """The settings of the environment; what is given and not None wins. Raises `WrongSettings`."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = (f"GREENROOM_{str(one['loc'][0]).upper()}: {one['msg']}" for one in error.errors())
        raise WrongSettings("; ".join(wrong)) from error


def run_environment(settings: Settings, *, run_id: str, run_dir: Path, ray_token_file: Path) -> dict[str, str]:
    """What the supervisor of a run starts with, and every process below it inherits."""
    environment = {name: value for name, value in inherited_environment().items() if name not in _DROPPED}
    return {
        **environment,
        RUN_MARK: run_id,
        "GREENROOM_HOME": str(settings.home_dir),
        "GREENROOM_HOST": settings.host,
        "GREENROOM_PORT": str(settings.port),
        "GREENROOM_DASHBOARD_PORT": str(settings.dashboard_port),
        **SAFE_PATH,
        **connection_environment(ray_token_file),
        **_ray(),
        **_serve(run_dir, haproxy_wrapper(settings.home_dir)),
    }


def machine_environment(programs: Path) -> dict[str, str]:
    """What every process of a machine of a cluster starts with; the image brings it. `programs` has the wrapper.

    The secret that Ray asks for is not among it: without `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH` nothing starts.
    """
    return {
        **SAFE_PATH,
        "RAY_AUTH_MODE": "token",
        **RAY,
        **SERVE,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy_wrapper(programs)),
    }


def connection_environment(ray_token_file: Path) -> dict[str, str]:
    """What a process outside needs to connect to the run's Ray: a notebook, `ray job submit`."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(ray_token_file),
    }


def _ray() -> dict[str, str]:
    dashboard_metrics, autoscaler_metrics = free_ports(2)
    return {
        # Despite its name it works on every system: the node's address is 127.0.0.1, and so Ray's
        # servers listen on loopback and not on every interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        **RAY,
        "DASHBOARD_METRIC_PORT": str(dashboard_metrics),
        "AUTOSCALER_METRIC_PORT": str(autoscaler_metrics),
    }


def _serve(run_dir: Path, haproxy: Path) -> dict[str, str]:
    files = run_dir / "h"  # HAProxy's sockets are 70 characters below, and 97 are the limit
    metrics, stats, fallback_http, fallback_grpc, replicas = free_ports(5)
    # Replicas look for theirs from a start of the run's own.
    first_replica = 20_000 + replicas % 100 * 100
    return {
        **SERVE,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(files / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(files / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(files / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(files),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(files / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        # A socket that nobody reads: the access log is the API's own, and has no second copy in syslog.
        "RAY_SERVE_HAPROXY_LOG_TARGET": str(files / "log.sock"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first_replica),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first_replica + 1000),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
    }


def haproxy_wrapper(folder: Path) -> Path:
    # Not in /tmp, where some machines allow no programs.
    return folder / "haproxy-on-loopback"


def write_haproxy_wrapper(folder: Path, binary: str) -> None:
    """A script that Ray runs in HAProxy's place, which mends what Ray's template gets wrong.

    It binds the metrics and the statistics page to every interface, without authentication. And while no replica
    can answer, it says 500 in plain text, which is neither true nor what clients of the API are promised. And with the
    splicing that it asks for (`-dS` is without), HAProxy 2.8 tells no replica of a client that went away when its body
    came apart from its headers, as most clients send it, and takes a whole core until its own timeout, an hour.
    """
    body = (
        '{"type":"urn:greenroom:problem:unavailable","title":"Unavailable","status":503,'
        '"detail":"no replica can answer now; try again","code":"unavailable","retryable":true,"errors":[]}'
    )
    answer = (
        "HTTP/1.1 503 Service Unavailable\\r\\nContent-Type: application/problem+json\\r\\nRetry-After: 1\\r\\n"
        f"Cache-Control: no-store\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
    )
    wrapper = haproxy_wrapper(folder)
    wrapper.write_text(
        "#!/bin/sh\n"
        'for word; do [ "$before" = -f ] && config=$word; before=$word; done\n'
        # Only those two: `bind *:8000` is what --host 0.0.0.0 asked for.
        "loopback='s/^\\( *bind \\)\\*\\{0,1\\}:/\\1127.0.0.1:/'\n"
        'sed -i -e "/^frontend prometheus/,/bind/$loopback" -e "/^listen stats/,/bind/$loopback" "$config" || exit 1\n'
        f"printf '{answer}%s' '{body}' > \"${{config%/*}}/500.http\" || exit 1\n"
        f'exec "{binary}" -dS "$@"\n'
    )
    wrapper.chmod(0o700)
