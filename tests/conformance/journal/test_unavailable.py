"""A database that does not answer: an error that says so, in time, and work as before when it is back."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from actors.core.errors import StoreUnavailable

STATEMENT_S = 0.5


async def test_appends_fail_and_work_again(
    server: Any, open_process: Callable[..., Any], writer: Callable[..., Any]
) -> None:
    process = open_process(statement_s=STATEMENT_S)
    one = await writer("sess_1", process.journal).create()
    server.stop()
    with pytest.raises(StoreUnavailable) as caught:
        async with asyncio.timeout(10):
            await one.accept()
    assert caught.value.retryable
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(10):
            await process.journal.activate("sess_1")
    server.start()
    owner = await one.take_over()
    await owner.accept()
    assert [event.seq for event in await process.journal.read("sess_1", after=0, limit=10)] == [1, 2]


async def test_all_that_wait_for_the_commit_are_told(
    server: Any, open_process: Callable[..., Any], writer: Callable[..., Any], outcomes: Callable[..., Any]
) -> None:
    process = open_process(statement_s=STATEMENT_S)
    writers = [await writer(f"sess_{n}", process.journal).create() for n in range(10)]
    server.stop()
    errors = await outcomes(*(one.accept() for one in writers))
    assert {type(error) for error in errors} == {StoreUnavailable}
    server.start()
    assert await outcomes(*(one.accept() for one in writers)) == [None] * 10


async def test_a_start_without_the_database_says_so(server: Any, open_process: Callable[..., Any]) -> None:
    server.stop()
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(10):
            await open_process(statement_s=STATEMENT_S).journal.activate("sess_1")


async def test_a_server_that_accepts_and_does_not_answer(
    postgres: Any, server: Any, open_process: Callable[..., Any], writer: Callable[..., Any]
) -> None:
    """A frozen machine, or one behind a broken network: nothing comes back, no error either."""
    process = open_process(statement_s=STATEMENT_S)
    one = await writer("sess_1", process.journal).create()
    await one.accept()
    if server.url.startswith("sqlite"):
        server.stop()  # here a lock is all that can keep an answer back
        frozen: list[int] = []
    else:
        pids = postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'greenroom'")
        frozen = [pid for (pid,) in pids]
        assert frozen
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(STATEMENT_S + 5):
                await one.accept()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        server.start()
