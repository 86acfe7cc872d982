"""What the ways out of a sandbox share: their limits, the record of what was asked for, and a refusal."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class EgressLimits:
    """Ceilings of one sandbox's connections. Each is of at least one; `total_bytes` counts both directions."""

    connections: int = 32
    connections_total: int = 10_000
    total_bytes: int = 1024 * 1024 * 1024
    head_bytes: int = 16 * 1024
    head_s: float = 10.0
    connect_s: float = 10.0
    idle_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What code in a sandbox asked of the network, and what was decided. No contents.

    `host` is empty where it came to no name. `rule` says which rule refused it, `count` how many were refused alike.
    """

    host: str
    port: int
    decision: Literal["allowed", "refused"]
    address: str | None = None
    rule: str | None = None
    reason: str | None = None
    count: int = 1


class ConnectionLog(Protocol):
    """Where attempts are written before what they tell of is done."""

    async def record(self, session_id: str, attempt: Attempt) -> None:
        """Durable when this returns. Raises `GreenroomError`; then the connection must not be made."""
        ...


Resolver: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name, as text. Raises OSError."""


class Denied(Exception):
    """A connection that is not made. `rule` is one word for programs, the reason is for the model."""

    def __init__(self, rule: str, reason: str, *, status: int = 403) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason
        self.status = status
