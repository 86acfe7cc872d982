"""`greenroom drain-node`: empty a machine of the cluster before it leaves. Runs where that machine's Ray runs."""

import asyncio
import logging
from typing import Any

import ray
from rich.console import Console

from actors.core.errors import GreenroomError
from actors.core.settings import Settings
from actors.vacate import Vacated, vacate

_ray: Any = ray


def run(console: Console, settings: Settings, *, address: str, node_id: str | None, within_s: float) -> int:
    """Prints what became of it and returns the exit code of the command."""
    try:
        _ray.init(address=address, namespace=settings.namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        console.print(f"Ray does not answer at {address}: {error}", markup=False, soft_wrap=True)
        return 3
    try:
        node = node_id or _ray.get_runtime_context().get_node_id()
        vacated = asyncio.run(vacate(settings, node, within_s=within_s))
    except GreenroomError as error:
        console.print(error.message, markup=False, soft_wrap=True)
        return 3
    finally:
        _ray.shutdown()
    console.print(_told(vacated), markup=False, soft_wrap=True)
    return 1 if vacated.left else 0


def _told(vacated: Vacated) -> str:
    if vacated.left:
        return f"Still there after {vacated.took_s:.1f} s: {', '.join(vacated.left)}. Their turns go on elsewhere."
    return f"Empty after {vacated.took_s:.1f} s; session actors that left: {len(vacated.hosts)}."
