"""Identifiers: a prefix that names the kind, then a UUID version 7 (RFC 9562), so that ids sort by birth."""

import hashlib
import os
from collections.abc import Callable
from typing import Literal, TypeAlias

from .clock import Clock

Kind: TypeAlias = Literal["sess", "turn", "msg", "user", "att", "mem", "call", "req", "appr", "aud", "alrt"]
NewId: TypeAlias = Callable[[Kind], str]
"""Makes a fresh id of that kind. A parameter wherever ids are made, so that tests can predict them."""


def uuid7_ids(clock: Clock) -> NewId:
    """Ids whose time part comes from `clock` and whose 74 random bits come from the kernel."""

    def new_id(kind: Kind) -> str:
        millis = int(clock.now().timestamp() * 1000) & ((1 << 48) - 1)
        random = int.from_bytes(os.urandom(10), "big")
        value = (
            (millis << 80) | (0x7 << 76) | ((random >> 68) & 0xFFF) << 64 | (0b10 << 62) | (random & ((1 << 62) - 1))
        )
        return f"{kind}_{value:032x}"

    return new_id


def derived_id(kind: Kind, *parts: str) -> str:
    """The same id for the same parts, always and everywhere: a UUID version 8 of their SHA-256."""
    joined = "\0".join(f"{len(part)}:{part}" for part in (kind, *parts))
    value = int.from_bytes(hashlib.sha256(joined.encode()).digest()[:16], "big")
    value = value & ~(0xF << 76) & ~(0b11 << 62) | (0x8 << 76) | (0b10 << 62)
    return f"{kind}_{value:032x}"
