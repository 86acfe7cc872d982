"""A Ray cluster of one node, as a program: `python node.py '<order as JSON>'`.

Prints a line of JSON when it is up and stops when its standard input ends. An order has `temp_dir`, and
`serve` with settings when the whole runtime is to be served over HTTP; `small` is then the path of the same
API once more, with room for two requests.
"""

import asyncio
import json
import logging
import sys

import ray

from actors.core.settings import Settings
from actors.start import start_actors, stop_actors


def main() -> None:
    order = json.loads(sys.argv[1])
    ray.init(
        num_cpus=2,
        resources={"session_host": 16, "sandbox": 1},
        object_store_memory=200_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace="greenroom",
        _temp_dir=order["temp_dir"],
        _node_ip_address="127.0.0.1",
    )
    served = Settings(**order["serve"]) if order.get("serve") else None
    if served is not None:
        serve(served, order.get("small"))
    print(json.dumps({"address": ray.get_runtime_context().gcs_address}), flush=True)
    sys.stdin.read()
    if served is not None:
        asyncio.run(stop_actors(served, grace_s=order.get("grace_s", 2)))
    ray.shutdown()


def serve(settings: Settings, small: str | None) -> None:
    from ray import serve

    from serve_app.app import APP, build

    serve.start(http_options={"host": settings.host, "port": settings.port})
    asyncio.run(start_actors(settings))
    serve.run(build(settings), name=APP, route_prefix="/")
    if small is not None:
        application = build(settings)
        deployment = application._bound_deployment
        application._bound_deployment = deployment.options(max_ongoing_requests=2, max_queued_requests=1)
        serve.run(application, name="small", route_prefix=small)


if __name__ == "__main__":
    main()
