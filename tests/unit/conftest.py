"""Unit tests have neither Ray nor a network: whoever reaches for them fails, whatever the code under test catches."""

import socket
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import ray


@pytest.fixture(autouse=True)
def no_ray_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # asyncio's own wake-up pipe is a `socketpair`, which neither connects nor binds.
    for owner, names in ((ray, ("init", "get_actor")), (socket.socket, ("connect", "connect_ex", "bind"))):
        for name in names:
            monkeypatch.setattr(owner, name, _forbidden(f"{owner.__name__}.{name}"))


def _forbidden(what: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail(f"a unit test called {what}")

    return refuse
