"""The contract of `Ledger`, one sentence a test."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from actors.core.errors import HoldConflict
from actors.ledger.base import Balance, Denied, Hold, State

U = "user:u:t"


async def reserved(process: Any, attempt: str = "a", amount: int = 10, *names: str, **options: Any) -> Hold:
    made = await process.ledger.reserve(process.wanted(attempt, amount, *names, **options))
    assert isinstance(made, Hold), made
    return made


async def sent(process: Any, attempt: str = "a", amount: int = 10, *names: str, **options: Any) -> Hold:
    hold = await reserved(process, attempt, amount, *names, **options)
    assert await process.ledger.dispatch(hold) is None
    return hold


async def balance(process: Any, name: str = U) -> Balance:
    return (await process.ledger.balances([name]))[name]


async def test_a_hold_is_reserved_then_spent(process: Any) -> None:
    hold = await reserved(process, amount=10)
    assert await balance(process) == Balance(0, 10)
    assert await process.ledger.dispatch(hold) is None
    assert await balance(process) == Balance(0, 10)
    after = await process.ledger.settle(hold, 7)
    assert (after.state, after.charged) == (State.SETTLED, 7)
    assert await balance(process) == Balance(7, 0)


async def test_a_released_hold_costs_nothing(process: Any) -> None:
    hold = await reserved(process)
    await process.ledger.release(hold)
    assert await balance(process) == Balance(0, 0)
    with pytest.raises(HoldConflict):
        await process.ledger.dispatch(hold)


async def test_what_was_dispatched_is_not_released(process: Any) -> None:
    hold = await sent(process)
    with pytest.raises(HoldConflict):
        await process.ledger.release(hold)
    assert await balance(process) == Balance(0, 10)


async def test_nobody_knows_what_it_cost_so_all_is_charged_until_the_truth_comes(process: Any) -> None:
    hold = await sent(process, amount=10)
    assert (await process.ledger.expire(hold)).state is State.EXPIRED
    assert await balance(process) == Balance(10, 0)
    await process.ledger.settle(hold, 3)
    assert await balance(process) == Balance(3, 0)


async def test_truth_after_a_release_counts_too(process: Any) -> None:
    hold = await reserved(process)
    await process.ledger.release(hold)
    await process.ledger.settle(hold, 4)
    assert await balance(process) == Balance(4, 0)


async def test_a_hold_that_was_never_sent_expires_into_nothing(process: Any) -> None:
    hold = await reserved(process)
    await process.ledger.expire(hold)
    assert await balance(process) == Balance(0, 0)


async def test_a_cost_above_the_hold_is_charged_in_full(process: Any) -> None:
    hold = await sent(process, amount=100)
    await process.ledger.settle(hold, 130)
    assert await balance(process) == Balance(130, 0)
    assert isinstance(await process.ledger.reserve(process.wanted("b", 1)), Denied)


async def test_repeating_anything_changes_nothing(process: Any) -> None:
    first = await reserved(process)
    assert await reserved(process) == first
    for _ in range(2):
        assert await process.ledger.dispatch(first) is None
    assert await balance(process) == Balance(0, 10)
    for _ in range(2):
        await process.ledger.settle(first, 7)
    for _ in range(2):
        await process.ledger.expire(first)
    assert await balance(process) == Balance(7, 0)
    assert (await reserved(process)).state is State.SETTLED
    with pytest.raises(HoldConflict):
        await process.ledger.release(first)
    with pytest.raises(HoldConflict):
        await process.ledger.dispatch(first)
    assert await balance(process) == Balance(7, 0)


async def test_one_attempt_has_one_amount_and_one_cost(process: Any) -> None:
    hold = await sent(process, amount=10)
    with pytest.raises(HoldConflict):
        await process.ledger.reserve(process.wanted("a", 11))
    await process.ledger.settle(hold, 7)
    with pytest.raises(HoldConflict):
        await process.ledger.settle(hold, 8)
    assert await balance(process) == Balance(7, 0)


async def test_all_buckets_or_none(process: Any) -> None:
    await reserved(process, "a", 95, "x")
    denied = await process.ledger.reserve(process.wanted("b", 10, "y", "x", "z"))
    assert denied == Denied("user:x:t", 0, 95, 100, None, may_pass=True)
    assert set((await process.ledger.balances(["user:y:t", "user:z:t"])).values()) == {Balance()}
    await reserved(process, "c", 5, "y", "x", "z")
    assert await balance(process, "user:z:t") == Balance(0, 5)


async def test_a_refusal_says_whether_waiting_may_help(process: Any) -> None:
    await process.ledger.settle(await sent(process, "a", 60), 60)
    await sent(process, "b", 40)
    may = await process.ledger.reserve(process.wanted("c", 40))
    may_not = await process.ledger.reserve(process.wanted("c", 41))
    assert (may, may_not) == (
        Denied(U, 60, 40, 100, None, may_pass=True),
        Denied(U, 60, 40, 100, None, may_pass=False),
    )


async def test_the_bucket_that_is_full_for_good_is_named_before_one_that_is_only_held(process: Any) -> None:
    await sent(process, "a", 100, "held")
    await process.ledger.settle(await sent(process, "b", 100, "full"), 100)
    denied = await process.ledger.reserve(process.wanted("c", 1, "held", "full"))
    assert (denied.bucket, denied.may_pass) == ("user:full:t", False)


async def test_less_room_than_asked_for_gives_what_there_is(process: Any) -> None:
    await sent(process, "a", 70)
    hold = await reserved(process, "b", 50, least=20)
    assert (hold.asked, hold.amount) == (50, 30)
    assert await reserved(process, "b", 50, least=20) == hold
    assert await balance(process) == Balance(0, 100)
    assert isinstance(await process.ledger.reserve(process.wanted("c", 50, least=1)), Denied)


async def test_a_bucket_without_a_limit_only_counts(process: Any) -> None:
    await process.ledger.settle(await sent(process, "a", 10**12, limit=None), 10**12)
    assert await balance(process) == Balance(10**12, 0)


@pytest.mark.parametrize("flag", ["paused", "suspended"])
async def test_a_flag_refuses_everything_until_it_is_taken_away(process: Any, flag: Any) -> None:
    hold = await sent(process, "a", 10)
    await process.ledger.flag(U, flag)
    for amount in (0, 1):
        denied = await process.ledger.reserve(process.wanted(f"b{amount}", amount))
        assert (denied.bucket, denied.flag, denied.may_pass) == (U, flag, False)
    await process.ledger.settle(hold, 5)  # what runs is still counted
    assert await balance(process) == Balance(5, 0, flag)
    await process.ledger.flag(U, None)
    await reserved(process, "c", 1)


async def test_a_hold_of_nothing_leaves_no_trace_but_a_cost_of_it_is_charged(process: Any) -> None:
    hold = await reserved(process, "a", 0)
    assert await process.ledger.dispatch(hold) is None
    await process.ledger.settle(hold, 0)
    await process.ledger.expire(hold)
    assert await process.ledger.find("a") is None
    await process.ledger.settle(hold, 3)
    assert await balance(process) == Balance(3, 0)
    await process.ledger.settle(hold, 3)
    assert await balance(process) == Balance(3, 0)


async def test_holds_whose_time_has_passed_are_found_whatever_became_of_them(process: Any) -> None:
    only_reserved, dispatched = await reserved(process, "a"), await sent(process, "b")
    await process.ledger.settle(await sent(process, "c"), 1)
    await process.ledger.release(await reserved(process, "d"))
    now = process.clock.now()
    assert await process.ledger.overdue(now, limit=10) == ()
    later = now + timedelta(minutes=10)
    overdue = {hold.attempt_id: hold for hold in await process.ledger.overdue(later, limit=10)}
    assert {name: hold.state for name, hold in overdue.items()} == {"a": State.RESERVED, "b": State.DISPATCHED}
    for hold in overdue.values():
        await process.ledger.expire(hold)
    assert await process.ledger.overdue(later, limit=10) == ()
    assert await balance(process) == Balance(11, 0)
    assert {only_reserved.attempt_id, dispatched.attempt_id} == set(overdue)


async def test_a_hold_is_found_again_and_settled_by_what_was_found(process: Any, open_process: Any) -> None:
    await sent(process, "a", 10, "x", "y")
    other = open_process()
    found = await other.ledger.find("a")
    assert found is not None
    assert (found.amount, found.state, [b.name for b in found.buckets]) == (
        10,
        State.DISPATCHED,
        ["user:x:t", "user:y:t"],
    )
    await other.ledger.settle(found, 6)
    assert await balance(process, "user:y:t") == Balance(6, 0)


async def test_processes_share_their_buckets(process: Any, open_process: Any) -> None:
    others = [open_process() for _ in range(3)]

    async def one(at: int) -> int:
        made = await others[at % 3].ledger.reserve(process.wanted(f"a{at}", 7))
        return made.amount if isinstance(made, Hold) else 0

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(at)) for at in range(30)]
    assert sum(task.result() for task in tasks) == 98
    assert await balance(process) == Balance(0, 98)


async def test_one_attempt_that_comes_twice_at_once_has_one_hold(process: Any, open_process: Any) -> None:
    other = open_process()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(one.ledger.reserve(process.wanted("same", 9)))
            for one in (process, other)
            for _ in range(4)
        ]
    assert {replace(task.result(), buckets=()) for task in tasks} == {replace(tasks[0].result(), buckets=())}
    assert await balance(process) == Balance(0, 9)


async def test_crossed_sets_of_buckets_do_not_wait_for_each_other_for_ever(process: Any, open_process: Any) -> None:
    other = open_process()
    names = ["a", "b", "c", "d"]

    async def one(at: int) -> None:
        which = process if at % 2 else other
        turned = names[at % 4 :] + names[: at % 4]
        hold = await sent(which, f"x{at}", 1, *turned, limit=None)
        await which.ledger.settle(hold, 1)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for at in range(40):
            group.create_task(one(at))
    assert set((await process.ledger.balances([f"user:{n}:t" for n in names])).values()) == {Balance(40, 0)}
