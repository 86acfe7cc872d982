"""Asking a server on this machine, with nothing but the standard library: quick to load, blind to proxies."""

import http.client
import json
from typing import Any

from . import ports

_ANSWER_S = 6.0


def is_ready(host: str, port: int) -> bool:
    """Whether GET /ready answers 200 now."""
    return _get(host, port, "/ready")[0] == http.client.OK


def get_json(host: str, port: int, path: str) -> dict[str, Any] | None:
    """The JSON object there, whatever its status; None when nothing answers, or something else."""
    try:
        answer: Any = json.loads(_get(host, port, path)[1])
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(ports.reachable(host), port, timeout=_ANSWER_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
