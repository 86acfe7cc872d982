"""The head node of a run: what `ray start --head` starts, less what one machine does not need.

Ray's own start waits two to three seconds for the dashboard before it starts anything else. Here the
dashboard starts beside the rest, at low priority, and no autoscaler and no log monitor are started.
This leans on Ray's inside (the version is pinned); `tests/e2e/cli` fails when an upgrade changes it.
"""

import logging
import os
import threading
from pathlib import Path
from typing import Any

import ray
from ray._private.node import Node
from ray._private.parameter import RayParams

OBJECT_STORE_BYTES = 200 * 1024 * 1024
"""Only what is larger than 100 KB goes through the object store, and that is rare here."""

_DASHBOARD_NICENESS = 10


class _Node(Node):
    """A Ray node whose dashboard does not hold up the rest."""

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        if include_dashboard:
            threading.Thread(target=self._serve_dashboard, args=(raise_on_failure,), daemon=True).start()

    def _serve_dashboard(self, raise_on_failure: bool) -> None:
        # Niceness belongs to a thread on Linux, and a child inherits it.
        os.setpriority(os.PRIO_PROCESS, 0, _DASHBOARD_NICENESS)
        try:
            super().start_api_server(include_dashboard=True, raise_on_failure=raise_on_failure)
        except Exception:  # without a dashboard everything else works; the log says why
            logging.getLogger(__name__).exception("the Ray dashboard did not start")
        # The kernel ends the child with the thread that made it, so this one stays.
        threading.Event().wait()


class Head:
    """The Ray processes of this machine. Create and stop it in the main thread: they live as long as it does."""

    def __init__(self, *, temp_dir: Path, dashboard: bool, dashboard_port: int, session_slots: int) -> None:
        """Start them and return when the node takes work. `session_slots` bounds the session actors."""
        parameters: dict[str, Any] = {
            "node_ip_address": "127.0.0.1",
            # A session actor waits more than it computes; one core would start one process at a time.
            "num_cpus": max(2, os.cpu_count() or 1),
            "resources": {"session_host": session_slots, "sandbox": 1},
            "object_store_memory": OBJECT_STORE_BYTES,
            "temp_dir": str(temp_dir),
            "include_dashboard": dashboard,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": dashboard_port,
            "dashboard_agent_listen_port": 0,
            "include_log_monitor": False,
            "no_monitor": True,
        }
        self._node = _Node(RayParams(**parameters), head=True, shutdown_at_exit=False, spawn_reaper=True)
        self._address: str = self._node.gcs_address

    @property
    def address(self) -> str:
        """For processes outside, which may pass it to `ray.init`.

        It is 127.0.0.1 in a form that Ray's client takes as it is: given 127.0.0.1 itself, it would look for
        the cluster at this machine's outer address, where nothing listens.
        """
        port = self._address.rpartition(":")[2]
        return f"[::ffff:127.0.0.1]:{port}"

    def connect(self, namespace: str) -> None:
        """Make this process a driver of the cluster."""
        ray.init(address=self._address, namespace=namespace, log_to_driver=False, logging_level=logging.WARNING)

    def lost(self) -> str | None:
        """The name of an essential process that ended by itself, or None."""
        dead: list[tuple[str, Any]] = self._node.dead_processes()
        return next((name for name, _ in dead if name in ("gcs_server", "raylet")), None)

    def stop(self) -> None:
        """Disconnect, and end the processes that were started."""
        ray.shutdown()
        self._node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)
