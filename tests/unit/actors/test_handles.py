"""A session's call: whom it is sent to, when it is sent again, and who is blamed for what went wrong."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from actors.core.errors import AtCapacity, GreenroomError, SessionBusy, SessionLost
from actors.testing import FakeClock


def raised(error):
    """As Ray brings an error of the method."""
    return RayTaskError("submit", f"Traceback …: {error}", error)


async def test_an_error_of_ours_is_the_callers_and_nobodys_fault(cluster, host, message):
    fleet, sessions = cluster(a=host(raised(SessionBusy(session_id="sess_1"))))
    with pytest.raises(SessionBusy):
        await sessions.submit(message)
    assert (len(fleet.hosts["a"].calls), fleet.asked) == (1, [{"new": True}])


async def test_a_fault_in_one_request_is_neither_repeated_nor_blamed_on_its_host(cluster, host, message, logs):
    fault = ValueError("INSERT INTO sessions … VALUES ('secret')")
    fleet, sessions = cluster(a=host(raised(fault)), b=host("elsewhere"))
    with pytest.raises(GreenroomError) as caught:
        await sessions.submit(message)
    assert (type(caught.value), caught.value.code, caught.value.retryable) == (GreenroomError, "internal", False)
    assert "INSERT" not in repr(caught.value)
    assert (len(fleet.hosts["a"].calls), fleet.failed, fleet.doubted) == (1, [], [])
    assert [(log["method"], "INSERT" in log["traceback"]) for log in logs] == [("submit", True)]


async def test_a_process_that_ended_is_reported_and_the_call_sent_elsewhere(cluster, host, message):
    fleet, sessions = cluster(a=host(ActorDiedError()), b=host("there"))
    assert await sessions.submit(message) == "there"
    assert (fleet.failed, fleet.doubted) == (["a"], ["a"])


async def test_a_host_that_is_slow_is_asked_again_and_not_reported(cluster, host, message):
    """Its turn runs there: placed elsewhere, the tools of the turn would be lost."""
    fleet, sessions = cluster(a=host(asyncio.Event(), asyncio.Event(), "at last", "at once"), b=host("elsewhere"))
    assert await sessions.submit(message) == "at last"
    assert [len(one.calls) for one in fleet.hosts.values()] == [3, 0]
    assert (fleet.failed, fleet.doubted) == ([], [])
    assert await sessions.submit(message) == "at once"


async def test_a_session_that_is_known_to_be_on_a_slow_host_stays_there(cluster, host, message):
    fleet, sessions = cluster(a=host("there", asyncio.Event(), "again"), b=host("elsewhere"))
    assert [await sessions.submit(message) for _ in range(2)] == ["there", "again"]
    assert len(fleet.asked) == 1


async def test_a_host_that_never_has_done_is_not_waited_for_without_end(cluster, host, message):
    fleet, sessions = cluster(a=host(asyncio.Event()), b=host("elsewhere"))
    async with asyncio.timeout(5):
        with pytest.raises(SessionLost) as caught:
            await sessions.submit(message)
    assert (caught.value.retryable, fleet.failed) == (True, [])


async def test_a_host_that_stands_still_is_reported_and_the_call_sent_elsewhere(cluster, host, message):
    fleet, sessions = cluster(a=host(asyncio.Event()), b=host("there"))
    fleet.hosts["a"].stands_still = True
    assert await sessions.submit(message) == "there"
    assert (fleet.failed, fleet.doubted) == (["a"], ["a"])


async def test_a_host_that_is_full_sends_the_call_to_another(cluster, host, message):
    fleet, sessions = cluster(a=host(raised(AtCapacity())), b=host("there"))
    assert await sessions.submit(message) == "there"
    assert (fleet.failed, fleet.asked) == ([], [{"new": True}, {"new": True, "full": ("a",)}])


async def test_where_every_host_is_full_the_caller_is_told_after_one_try_of_each(cluster, host, message):
    fleet, sessions = cluster(a=host(raised(AtCapacity())), b=host(raised(AtCapacity())))
    with pytest.raises(AtCapacity):
        await sessions.submit(message)
    assert [len(one.calls) for one in fleet.hosts.values()] == [1, 1]


async def test_a_call_may_bring_a_session_into_memory_where_the_directory_sent_it_and_nowhere_else(
    cluster, host, message
):
    fleet, sessions = cluster(a=host("there"))
    for _ in range(2):
        await sessions.submit(message)
    assert fleet.hosts["a"].calls == [True, False]


async def test_a_host_whose_clock_is_ahead_serves_after_one_refusal(cluster, host, message):
    fleet, sessions = cluster(a=host("there"), b=host("elsewhere"))
    fleet.hosts["a"].clock = FakeClock(datetime.now(UTC) + timedelta(hours=1))
    for session_id in ("sess_1", "sess_2"):
        assert await sessions.submit(replace(message, session_id=session_id)) == "there"
    assert fleet.asked == [{"new": True}, {"new": True, "refused": "a"}, {"new": True}]
