"""The path of a request as the routes see it: without the prefix that the application is mounted under."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """`/api/v1/chat`, also where Serve mounts the application under a route prefix."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path
