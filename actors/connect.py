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
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from .agent.sessions import NewSession, Receipt, Submit, TurnResult
from .core.clock import Clock, SystemClock
from .core.errors import InvalidInput, UnavailableError
from .core.events import TERMINAL, Event, Preview
from .core.ids import NewId, uuid7_ids
from .core.settings import Settings, set_environment
from .handles import RemoteSessions
from .security.keys import ADMIN_USER
from .wiring.models import default_model

POLL_S = 10.0
TURN_S = 3600.0

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Despite its name it works on every system: this process joins as 127.0.0.1, where the local cluster listens."""

_ray: Any = ray


@dataclass(slots=True)
class SessionHandle:
    """A session, wherever it lives. Messages and events are the same that HTTP clients see."""

    id: str
    _greenroom: "Greenroom"
    _new: NewSession | None = None
    _last_seq: int = 0

    async def chat(self, message: str, *, model: str | None = None) -> TurnResult:
        """Say something and wait for the turn's end. A failed turn is a result with `error`, not an exception."""
        command = self._command(message, model)
        result = await self._greenroom.sessions.chat(command, wait_s=TURN_S)
        if isinstance(result, Receipt):
            raise UnavailableError(f"turn {result.turn_id} still runs after {TURN_S:g} s; its events go on")
        self._new = None
        return result

    async def stream(self, message: str, *, model: str | None = None) -> AsyncGenerator[Event | Preview]:
        """Say something and read its turn as it happens: previews, numbered events, and the terminal one last."""
        command = self._command(message, model)
        receipt = await self._greenroom.sessions.submit(command)
        self._new = None
        async for item in self.follow(after=receipt.seq - 1):
            if item_turn(item) == receipt.turn_id:
                yield item
                if isinstance(item, Event) and isinstance(item.body, TERMINAL):
                    return

    async def follow(self, *, after: int = 0) -> AsyncGenerator[Event | Preview]:
        """Every event above `after`, and previews, for as long as you read."""
        seen: dict[str, int] = {}
        while True:
            batch = await self._ask(after, seen, POLL_S)
            seen = batch.seen
            for event in batch.events:
                after = event.seq
                yield event
            for preview in batch.previews:
                yield preview

    async def events(self, *, after: int = 0) -> list[Event]:
        """The journal from `after` to its present end."""
        found: list[Event] = []
        while batch := (await self._ask(after, {}, 0.01)).events:
            found.extend(batch)
            after = batch[-1].seq
        return found

    async def cancel(self, turn_id: str) -> TurnResult | None:
        """Stop a turn; None when it had ended."""
        return await self._greenroom.sessions.cancel(self.id, self._greenroom.user_id, turn_id)

    async def _ask(self, after: int, seen: dict[str, int], wait_s: float) -> Any:
        greenroom = self._greenroom
        return await greenroom.sessions.follow(self.id, greenroom.user_id, after=after, seen=seen, wait_s=wait_s)

    def _command(self, message: str, model: str | None) -> Submit:
        greenroom = self._greenroom
        return Submit(
            session_id=self.id,
            user_id=greenroom.user_id,
            message_id=greenroom.new_id("msg"),
            turn_id=greenroom.new_id("turn"),
            content=message,
            model=model,
            new=self._new,
        )


def item_turn(item: Event | Preview) -> str | None:
    """The turn that an event or a preview belongs to."""
    return item.turn_id


@dataclass(frozen=True, slots=True)
class Greenroom:
    """A connection to a running cluster."""

    sessions: RemoteSessions
    user_id: str
    model: str
    new_id: NewId = field(repr=False)

    async def session(
        self, session_id: str | None = None, *, model: str | None = None, system: str | None = None, **metadata: Any
    ) -> SessionHandle:
        """A session of that id, or a new one, which begins with its first message."""
        if session_id is not None:
            handle = SessionHandle(session_id, self)
            await handle.events(after=0)  # raises SessionNotFound now and not at the first message
            return handle
        return SessionHandle(self.new_id("sess"), self, NewSession(model or self.model, system, metadata))

    def close(self) -> None:
        """Disconnect from the cluster. Sessions and their turns go on."""
        _ray.shutdown()


async def connect(
    home: str | Path | None = None, *, address: str | None = None, user_id: str = ADMIN_USER, clock: Clock | None = None
) -> Greenroom:
    """Connect to the cluster that `greenroom up` runs from that home folder, or to one at `address`.

    Raises `UnavailableError` when none runs there. Inside a Ray job the connection is there already.
    """
    settings = Settings() if home is None else Settings(home=Path(home))
    if not _ray.is_initialized():
        _join(settings, address)
    clock = clock or SystemClock()
    return Greenroom(RemoteSessions(settings.namespace, clock), user_id, default_model(settings), uuid7_ids(clock))


def _join(settings: Settings, address: str | None) -> None:
    run = _read_run(settings.home_dir / "run.json")
    address = address or run.get("ray_address")
    if address is None:
        raise UnavailableError(f"no Greenroom runs from {settings.home_dir}; start one with: greenroom up --detach")
    if token_file := run.get("ray_token_file"):
        set_environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file), **LOOPBACK})
    try:
        _ray.init(address=address, namespace=settings.namespace, log_to_driver=False, logging_level=logging.ERROR)
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
