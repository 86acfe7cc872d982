"""Unit tests have neither Ray nor a network: whoever reaches for them fails, whatever the code under test catches."""

import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import ray


@pytest.fixture(autouse=True)
def no_ray_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # asyncio's own wake-up pipe is a `socketpair`, which neither connects nor binds.
    for owner, names in ((ray, ("init", "get_actor")), (socket.socket, ("connect", "connect_ex", "bind"))):
        for name in names:
            monkeypatch.setattr(owner, name, _forbidden(f"{owner.__name__}.{name}"))


@pytest.fixture(autouse=True)
def digits_limit() -> Iterator[None]:
    """Programs that the demo model writes lift Python's limit on digits, and tests run them in this process."""
    limit = sys.get_int_max_str_digits()
    yield
    sys.set_int_max_str_digits(limit)


def _forbidden(what: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail(f"a unit test called {what}")

    return refuse
