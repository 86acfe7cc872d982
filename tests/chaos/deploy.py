"""Puts the runtime on a cluster, as a program: `python deploy.py <address> '<settings as JSON>'`.

It ends when the application runs; everything that it started lives on without it.
"""

import asyncio
import json
import sys
import warnings

import ray
from ray import serve

from actors.core.settings import Settings
from actors.start import start_actors
from serve_app.app import APP, build

REPLICAS = 2


def main() -> None:
    address, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    ray.init(address=address, namespace=settings.namespace, log_to_driver=False)
    # One HAProxy: several nodes on one machine would all want the same port.
    serve.start(http_options={"host": settings.host, "port": settings.port}, proxy_location="HeadOnly")
    asyncio.run(start_actors(settings))
    application = build(settings)
    application._bound_deployment = application._bound_deployment.options(num_replicas=REPLICAS)
    serve.run(application, name=APP, route_prefix="/")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
