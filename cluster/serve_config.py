"""The application as Ray Serve takes it declaratively: what `serve deploy` reads from a file, by the settings."""

from typing import Any

from actors.core.settings import Settings
from actors.ray_fleet import SERVING
from serve_app.app import APP, DEPLOYMENT

BUILDER = "serve_app.app:build"

_NOT_TOLD = {"database_url", "budget_redis_url"}
"""They may hold passwords, and whoever may ask Serve is told its configuration. The builder reads them itself."""


def serve_config(settings: Settings, *, replicas: int, resource: str | None = None) -> dict[str, Any]:
    """The body of `PUT /api/serve/applications/`. Serve keeps what did not change, and replaces what did.

    Only settings that were set are told; the builder has the same defaults, and the rest from the environment of the
    head. HTTP is on every machine that has a replica, and on the head. With `resource` each replica takes one of that
    custom resource, so that a load balancer can know where HTTP is.
    """
    deployment: dict[str, Any] = {"name": DEPLOYMENT, "num_replicas": replicas}
    if resource is not None:
        taken = {"num_cpus": 0, "resources": {resource: 1}, "label_selector": SERVING}
        deployment["ray_actor_options"] = taken
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.host, "port": settings.port},
        "applications": [
            {
                "name": APP,
                "route_prefix": "/",
                "import_path": BUILDER,
                "args": settings.model_dump(mode="json", exclude_unset=True, exclude=_NOT_TOLD),
                "deployments": [deployment],
            }
        ],
    }
