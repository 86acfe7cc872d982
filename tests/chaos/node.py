"""One Ray node, as a program: `python node.py '<order as JSON>'`.

An order has `temp_dir` and `resources`; that of a worker node has the head's `address`, that of the head a
`dashboard_port`. A line of JSON says which processes there are when the node is up, and again after each line
on standard input; the line `gcs` starts a GCS that is gone, on the port it had. It ends with its input.

It is no driver: a driver ends itself when the GCS stays away, and the node would end with it.
"""

import json
import os
import sys
from typing import Any

from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET


def start(order: dict[str, Any]) -> Node:
    head = "address" not in order
    role: dict[str, Any] = {"gcs_address": order.get("address"), "node_manager_port": 0}
    if head:
        role = {"no_monitor": True, "include_dashboard": False, "dashboard_port": order["dashboard_port"]}
    shared: Any = {"include_log_monitor": False}  # annotated as text in Ray
    parameters = RayParams(
        node_ip_address="127.0.0.1",
        num_cpus=2,
        resources=order["resources"],
        object_store_memory=100_000_000,
        temp_dir=order["temp_dir"],
        dashboard_agent_listen_port=0,
        min_worker_port=0,
        max_worker_port=0,
        **shared,
        **role,
    )
    return Node(parameters, head=head, shutdown_at_exit=False, spawn_reaper=False)


def mend_gcs(node: Node) -> None:
    if _pid(node, PROCESS_TYPE_GCS_SERVER) is None:
        node.kill_gcs_server(check_alive=False)
        node.start_gcs_server()


def told(node: Node, address: str) -> str:
    return json.dumps(
        {"address": address, "gcs": _pid(node, PROCESS_TYPE_GCS_SERVER), "raylet": _pid(node, PROCESS_TYPE_RAYLET)}
    )


def _pid(node: Node, kind: str) -> int | None:
    """The process of that kind, unless it has ended."""
    processes = node.all_processes.get(kind, [])
    return next((info.process.pid for info in processes if info.process.poll() is None), None)


def main() -> None:
    # What Ray prints, in C++ too, goes with the errors.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    node = start(json.loads(sys.argv[1]))
    try:
        address = node.gcs_address
        print(told(node, address), file=answers)
        for line in sys.stdin:
            if line.strip() == "gcs":
                mend_gcs(node)
            print(told(node, address), file=answers)
    finally:
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


if __name__ == "__main__":
    main()
