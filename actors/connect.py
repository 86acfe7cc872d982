"""Sessions by Python handles, without HTTP: for notebooks and jobs that run where the cluster is.

    greenroom = await connect()
    session = await greenroom.session()
    async for item in session.stream("What is 2 ** 64?"):
        ...

Whoever can connect holds the cluster's token and is trusted with every session: the handles act for
the user they are given, the admin by default.
"""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.clock import Clock, SystemClock
from .core.errors import InvalidInput, UnavailableError
from .core.ids import uuid7_ids
from .core.settings import Settings, read_secret, set_environment
from .security.keys import ADMIN_USER
from .wiring.models import default_model

if TYPE_CHECKING:
    from .session_handle import Greenroom

AUTH_VARIABLE = "RAY_AUTH_MODE"
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Despite its name it works on every system: this process joins as 127.0.0.1, where the local cluster listens."""


async def connect(
    home: str | Path | None = None, *, address: str | None = None, user_id: str = ADMIN_USER, clock: Clock | None = None
) -> "Greenroom":
    """Connect to the cluster that `greenroom up` runs from that home folder, or to one at `address`.

    Raises `UnavailableError` when none runs there. Inside a Ray job the connection is there already.
    """
    settings = Settings() if home is None else Settings(home=Path(home))
    run = _read_run(settings.home_dir / "run.json")
    if token_file := run.get("ray_token_file"):
        _use_token(str(token_file))
    # Ray reads its environment when it is imported, so it is imported here and not above.
    import ray  # noqa: PLC0415

    from .handles import RemoteSessions  # noqa: PLC0415  it imports Ray
    from .sandbox_handles import RemoteSandboxes  # noqa: PLC0415  as above
    from .session_handle import Greenroom  # noqa: PLC0415  as above
    from .wiring.workspaces import WorkspacesOnDemand  # noqa: PLC0415  after Ray, as all that may import it

    if not ray.is_initialized():
        _join(ray, settings, address or run.get("ray_address"))
    clock = clock or SystemClock()
    new_id = uuid7_ids(clock)
    sandboxes = RemoteSandboxes(settings.namespace)
    workspaces = WorkspacesOnDemand(settings, sandboxes, clock=clock, new_id=new_id)
    sessions = RemoteSessions(settings.namespace, clock)
    return Greenroom(sessions, user_id, default_model(settings), workspaces, new_id)


def _use_token(file: str) -> None:
    if "ray" in sys.modules and read_secret(AUTH_VARIABLE) != "token":
        raise InvalidInput(
            "Ray was imported before its token was known: call connect() first, or set RAY_AUTH_MODE=token"
        )
    set_environment({AUTH_VARIABLE: "token", "RAY_AUTH_TOKEN_PATH": file, **LOOPBACK})


def _join(ray: Any, settings: Settings, address: str | None) -> None:
    if address is None:
        raise UnavailableError(f"no Greenroom runs from {settings.home_dir}; start one with: greenroom up --detach")
    try:
        ray.init(address=address, namespace=settings.namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise UnavailableError(f"the cluster at {address} does not answer: {error}") from error


def _read_run(file: Path) -> dict[str, Any]:
    try:
        run: Any = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidInput(f"{file} is not readable: {error}") from error
    return run
