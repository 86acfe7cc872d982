"""A Ray cluster of several machines on this one, as a program: `python nodes.py '<order as JSON>'`.

The order has `temp_dir`, and `head` with the arguments of the head node. Each further line on standard input is a
command, and each is answered by a line of JSON; it stops when its standard input ends.
"""

import itertools
import json
import logging
import socket
import sys
import time
from typing import Any

from ray.cluster_utils import Cluster


def main() -> None:
    order = json.loads(sys.argv[1])
    logging.disable(logging.CRITICAL)
    cluster = Cluster(shutdown_at_exit=True)
    head = {
        "temp_dir": order["temp_dir"],
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
        **order["head"],
    }
    for line in itertools.chain([json.dumps({"add": head})], iter(sys.stdin.readline, "")):
        print(json.dumps(answer(cluster, json.loads(line))), flush=True)
    cluster.shutdown()


def answer(cluster: Cluster, command: dict[str, Any]) -> dict[str, Any]:
    if "add" in command:
        node = cluster.add_node(node_ip_address="127.0.0.1", object_store_memory=100_000_000, **command["add"])
        return {"id": node.node_id, "pids": pids(node), "address": cluster.address}
    assert "start_gcs" in command
    head: Any = cluster.head_node
    head.kill_gcs_server(check_alive=False)  # it is dead: the node is to know
    head.start_gcs_server()
    await_port(cluster.address)
    return {"pids": pids(head)}


def await_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on {address}"
            time.sleep(0.02)
        else:
            return


def pids(node: Any) -> dict[str, int]:
    return {kind: processes[0].process.pid for kind, processes in node.all_processes.items()}


if __name__ == "__main__":
    main()
