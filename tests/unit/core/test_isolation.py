"""The guard of the unit tests itself: neither Ray nor a network, but asyncio as ever."""

import asyncio
import socket
import threading

import pytest
import ray
from _pytest.outcomes import Failed


def test_ray_cannot_be_reached() -> None:
    with pytest.raises(Failed):
        ray.init()
    with pytest.raises(Failed):
        ray.get_actor("directory")


@pytest.mark.parametrize("call", ["connect", "connect_ex", "bind"])
def test_no_socket_goes_out_or_listens(call: str) -> None:
    with socket.socket() as one, pytest.raises(Failed):
        getattr(one, call)(("127.0.0.1", 1))


async def test_code_that_catches_everything_does_not_get_round_it() -> None:
    def careless() -> None:
        try:
            socket.create_connection(("127.0.0.1", 1), timeout=1)
        except Exception:
            return

    with pytest.raises(Failed):
        careless()


async def test_the_event_loop_can_still_be_woken_from_a_thread() -> None:
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: loop.call_soon_threadsafe(woken.set)).start()
    await asyncio.wait_for(woken.wait(), 5)
