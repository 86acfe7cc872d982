"""Leases, warm sandboxes and refusals of the host, over sandboxes that run nothing."""

import asyncio
import errno

import pytest

from actors.core import telemetry
from actors.core.errors import LeaseEnded, SandboxUnavailable
from actors.sandbox.base import Capability, Level, Missing, SandboxSpec
from actors.sandbox.fence import Fence, bound
from actors.sandbox.host import SandboxHost, open_sandboxes
from actors.sandbox.unavailable import UnavailableSandboxes
from actors.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def host(backend, clock):
    made = SandboxHost(
        backend, SandboxSpec(warm=0, idle_s=100, max_leased=2, wait_s=0), backend.capability, clock=clock
    )
    yield made
    await made.aclose()


async def test_session_keeps_one_and_sessions_share_none(host, backend):
    await host.write("a", "f", b"1")
    await host.write("b", "f", b"2")

    assert (await host.read("a", "f", max_bytes=9)).data == b"1"
    assert (await host.read("b", "f", max_bytes=9)).data == b"2"
    assert len(backend.made) == 2


async def test_a_sandbox_is_told_whose_it_is_and_never_again(host, backend):
    await host.write("a", "f", b"1")
    await host.write("a", "f", b"2")
    await host.write("b", "f", b"3")
    assert [sandbox.session_id for sandbox in backend.made] == ["a", "b"]


async def test_first_calls_at_once_make_one(host, backend, until):
    backend.gate.clear()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(host.shell("a", str(n), timeout_s=1)) for n in range(5)]
        await until(lambda: backend.creating)
        backend.gate.set()

    assert len(backend.made) == 1
    assert {call.result().output for call in calls} == {"sandbox 0"}


async def test_first_caller_that_gives_up_takes_nobody_with_it(host, backend, until):
    backend.gate.clear()
    first = asyncio.create_task(host.shell("a", "1", timeout_s=1))
    second = asyncio.create_task(host.shell("a", "2", timeout_s=1))
    await until(lambda: backend.creating)
    first.cancel()
    backend.gate.set()

    assert (await second).output == "sandbox 0"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_release_destroys_and_nothing_is_used_again(host, backend):
    await host.write("a", "f", b"1")
    await host.release("a")
    await host.release("a")

    assert backend.made[0].destroyed
    assert await host.list("a") == ()
    assert len(backend.made) == 2


async def test_release_while_it_is_made_leaves_nothing(host, backend, until):
    backend.gate.clear()
    call = asyncio.create_task(host.shell("a", "1", timeout_s=1))
    await until(lambda: backend.creating)
    await host.release("a")
    backend.gate.set()

    with pytest.raises(SandboxUnavailable, match="released"):
        await call
    assert backend.made[0].destroyed
    assert (await host.status()).leased == 0


async def hang(*_args, **_options):
    await asyncio.Event().wait()


async def test_interrupt_ends_the_commands_of_the_session_and_leaves_the_sandbox(host, backend, until):
    await host.write("a", "f", b"1")
    await host.list("b")
    answer, backend.made[0].shell = backend.made[0].shell, hang
    backend.made[1].shell = hang
    calls = [asyncio.create_task(host.shell(session, "x", timeout_s=60)) for session in ("a", "a", "b")]
    await until(lambda: [len(tasks) for tasks in host._running._tasks.values()] == [2, 1])

    await host.interrupt("a")

    assert [call.done() for call in calls] == [True, True, False]
    assert [(await call).verdict for call in calls[:2]] == ["cancelled", "cancelled"]
    backend.made[0].shell = answer
    assert (await host.shell("a", "y", timeout_s=1)).output == "sandbox 0"
    assert (await host.read("a", "f", max_bytes=9)).data == b"1"
    await host.interrupt("b")
    assert (await calls[2]).verdict == "cancelled"


async def test_interrupt_ends_a_command_whose_sandbox_is_being_made(host, backend, until):
    backend.gate.clear()
    call = asyncio.create_task(host.shell("a", "x", timeout_s=60))
    await until(lambda: backend.creating)

    await host.interrupt("a")

    assert (await call).verdict == "cancelled"
    assert (await host.status()).leased == 0


async def test_interrupt_where_nothing_runs_makes_nothing(host, backend):
    await host.interrupt("nobody")
    await host.list("idle")
    await host.interrupt("idle")
    assert len(backend.made) == 1
    assert not await host.holds("nobody")


async def test_a_second_interrupt_does_not_cut_the_first_short(host, backend, until):
    """Cancelled once more, a command would be over before what it started is dead."""
    dying, dead = asyncio.Event(), asyncio.Event()

    async def slow_to_die(*_args, **_options):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            dying.set()
            await dead.wait()
            raise

    await host.list("a")
    backend.made[0].shell = slow_to_die
    call = asyncio.create_task(host.shell("a", "x", timeout_s=60))
    await until(lambda: host._running._tasks.get("a"))
    await asyncio.sleep(0)
    first = asyncio.create_task(host.interrupt("a"))
    await dying.wait()
    second = asyncio.create_task(host.interrupt("a"))
    await asyncio.wait({first, second, call}, timeout=0.05)

    assert [task.done() for task in (first, second, call)] == [False, False, False]
    dead.set()
    await first
    await second
    assert (await call).verdict == "cancelled"


async def test_a_caller_that_is_cancelled_itself_is_told_so(host, backend, until):
    await host.list("a")
    backend.made[0].shell = hang
    call = asyncio.create_task(host.shell("a", "x", timeout_s=60))
    await until(lambda: host._running._tasks.get("a"))

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert not host._running._tasks


async def test_no_more_than_the_limit_are_leased(host):
    await host.list("a")
    await host.list("b")
    with pytest.raises(SandboxUnavailable, match="All 2 sandboxes of this machine are in use") as caught:
        await host.list("c")
    assert caught.value.details["max_leased"] == 2
    assert (await host.status()).leased == 2

    await host.release("a")
    await host.list("c")


async def test_lost_sandbox_is_said_once_and_replaced(host, backend):
    await host.write("a", "f", b"1")
    backend.made[0].lost = True

    assert (await host.shell("a", "x", timeout_s=1)).verdict == "sandbox_lost"
    assert backend.made[0].destroyed
    assert (await host.shell("a", "x", timeout_s=1)).output == "sandbox 1"


async def test_lost_sandbox_found_by_a_file_operation(host, backend):
    await host.write("a", "f", b"1")
    backend.made[0].lost = True

    with pytest.raises(SandboxUnavailable, match="next call gets a new one"):
        await host.read("a", "f", max_bytes=1)
    assert await host.list("a") == ()


async def test_verdict_sandbox_lost_drops_it(host, backend):
    await host.list("a")
    backend.made[0].verdict = "sandbox_lost"

    assert (await host.python("a", "x", timeout_s=1)).verdict == "sandbox_lost"
    assert (await host.python("a", "x", timeout_s=1)).output == "sandbox 1"


async def test_creation_that_fails_keeps_no_place(host, backend):
    backend.failures = 3
    for session in ("a", "b", "c"):
        with pytest.raises(SandboxUnavailable, match="full"):
            await host.shell(session, "x", timeout_s=1)
    assert (await host.status()).leased == 0
    assert (await host.shell("d", "x", timeout_s=1)).verdict == "ok"


@pytest.fixture
async def warm_host(backend, clock, until):
    made = SandboxHost(backend, SandboxSpec(warm=2, idle_s=100), backend.capability, clock=clock)
    made.start()
    await until(lambda: len(backend.made) == 2)
    yield made
    await made.aclose()


async def test_warm_ones_are_taken_and_replaced(warm_host, backend, until):
    assert (await warm_host.status()).warm == 2

    assert (await warm_host.shell("a", "x", timeout_s=1)).output == "sandbox 0"
    await until(lambda: len(backend.made) == 3)

    status = await warm_host.status()
    assert (status.leased, status.warm) == (1, 2)


async def test_dead_warm_one_is_not_handed_out(warm_host, backend):
    backend.made[0].lost = True
    assert (await warm_host.shell("a", "x", timeout_s=1)).output == "sandbox 1"
    assert backend.made[0].destroyed


async def test_who_gives_up_while_a_warm_one_is_asked_leaves_nothing(warm_host, backend):
    asked = asyncio.Event()

    async def silent(*_args, **_options):
        asked.set()
        await asyncio.Event().wait()

    backend.made[0].list = silent
    call = asyncio.create_task(warm_host.shell("a", "x", timeout_s=1))
    await asked.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert backend.made[0].destroyed
    assert (await warm_host.status()).leased == 0


@pytest.mark.parametrize("failure", [SandboxUnavailable("full"), OSError(errno.EMFILE, "Too many open files")])
async def test_refill_that_fails_is_tried_again_with_the_next_lease(warm_host, backend, clock, until, failure):
    backend.failures, backend.failure = 1, failure
    await warm_host.list("a")
    await until(lambda: not backend.failures)
    await clock.sleeping(2)  # the reaper and the refill's pause
    clock.advance(5)
    await warm_host.list("b")

    await until(lambda: len(warm_host._shelf) == 2)


async def test_idle_ones_end_and_busy_ones_stay(warm_host, backend, clock, until):
    await warm_host.list("idle")
    await warm_host.list("used")
    idle, used = backend.made[0], backend.made[1]
    for _ in range(5):
        await clock.sleeping(1)
        clock.advance(25)
        await warm_host.list("used")
    await until(lambda: idle.destroyed)

    assert not used.destroyed
    assert (await warm_host.status()).leased == 1


async def test_one_that_cannot_be_destroyed_does_not_keep_others_from_ending(warm_host, backend, clock, until):
    async def refuse():
        raise OSError(errno.EBUSY, "busy")

    await warm_host.list("stuck")
    await warm_host.list("idle")
    backend.made[0].destroy = refuse
    for _ in range(4):
        await clock.sleeping(1)
        clock.advance(25)
    await until(lambda: backend.made[1].destroyed)

    await warm_host.list("later")
    await until(lambda: len(warm_host._shelf) == 2)
    later = next(sandbox for sandbox in backend.made[2:] if sandbox not in warm_host._shelf)
    for _ in range(5):
        await clock.sleeping(1)
        clock.advance(25)
    await until(lambda: later.destroyed)


async def test_long_call_is_not_idleness(warm_host, backend, clock, until):
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(*_args, **_options):
        started.set()
        await finish.wait()

    await warm_host.list("a")
    backend.made[0].write = slow
    call = asyncio.create_task(warm_host.write("a", "f", b""))
    await started.wait()
    for _ in range(8):
        await clock.sleeping(1)
        clock.advance(25)
    await clock.sleeping(1)

    assert not backend.made[0].destroyed
    finish.set()
    await call


async def test_close_destroys_leased_and_warm(warm_host, backend):
    await warm_host.list("a")
    await warm_host.aclose()
    await warm_host.aclose()

    assert all(sandbox.destroyed for sandbox in backend.made)
    assert backend.closed
    with pytest.raises(SandboxUnavailable, match="closed"):
        await warm_host.list("a")


async def test_open_gives_a_host_where_isolation_is_strong_enough(backend, clock):
    host = await open_sandboxes(backend, SandboxSpec(warm=0), clock=clock)
    assert isinstance(host, SandboxHost)
    await host.aclose()


@pytest.mark.parametrize(
    ("level", "require"),
    [
        (Level.NONE, Level.NAMESPACE),
        (Level.NONE, Level.NONE),
        (Level.LANDLOCK, Level.NAMESPACE),
        (Level.NAMESPACE, Level.VM),
    ],
)
async def test_open_refuses_weaker_isolation_by_name_and_fix(backend, clock, level, require):
    backend.capability = Capability("fake", level, missing=(Missing("user namespaces", "allow them"),))
    sandboxes = await open_sandboxes(backend, SandboxSpec(), clock=clock, require=require)

    assert isinstance(sandboxes, UnavailableSandboxes)
    assert backend.closed
    assert not backend.made
    for call in (
        sandboxes.shell("a", "x", timeout_s=1),
        sandboxes.python("a", "x", timeout_s=1),
        sandboxes.read("a", "f", max_bytes=1),
        sandboxes.write("a", "f", b""),
        sandboxes.list("a"),
    ):
        with pytest.raises(SandboxUnavailable, match=r"user namespaces \(fix: allow them\)") as caught:
            await call
        assert caught.value.details["missing"] == [["user namespaces", "allow them"]]
    assert (await sandboxes.status()).capability.level is level
    await sandboxes.interrupt("a")
    await sandboxes.release("a")
    await sandboxes.aclose()


# Places, freezing and the end of leases ---------------------------------------------------------------


SMALL = SandboxSpec(warm=0, idle_s=100, max_lease_s=1000, freeze_s=4, max_leased=2, wait_s=30, spare_s=10)


@pytest.fixture
async def small(backend, clock):
    """A host that is kept up, with two places."""
    made = SandboxHost(backend, SMALL, backend.capability, clock=clock)
    made.start()
    yield made
    await made.aclose()


@pytest.fixture
def later(clock):
    """Let time pass, and the rounds that are due in it."""

    async def pass_by(seconds):
        for _ in range(int(seconds)):
            await clock.sleeping(1)
            clock.advance(1)
            for _ in range(10):
                await asyncio.sleep(0)

    return pass_by


async def test_who_waits_gets_the_place_of_the_longest_idle(small, backend, later, until):
    await small.list("a")
    await later(3)
    await small.list("b")
    await later(1)

    waiting = asyncio.create_task(small.shell("c", "x", timeout_s=1))
    await until(lambda: small._leases.waiting)
    assert (await small.status()).waiting == 1
    await later(4)
    assert not waiting.done()  # nobody was idle for long enough
    await later(3)

    assert (await waiting).output == "sandbox 2"
    assert [sandbox.destroyed for sandbox in backend.made] == [True, False, False]
    assert (await small.status()).waiting == 0


async def test_a_place_that_is_idle_already_is_given_at_once(small, backend, later):
    await small.list("a")
    await small.list("b")
    await later(12)

    assert (await small.shell("c", "x", timeout_s=1)).output == "sandbox 2"


async def test_what_is_in_use_makes_no_room(small, backend, later, until):
    await small.list("a")
    await small.list("b")
    for sandbox in backend.made:
        sandbox.shell = hang
    running = [asyncio.create_task(small.shell(session, "x", timeout_s=99)) for session in "ab"]
    await until(lambda: all(lease.users for lease in small._leases.held))

    waiting = asyncio.create_task(small.list("c"))
    await later(31)

    with pytest.raises(SandboxUnavailable, match="none became free within 30 s"):
        await waiting
    assert not any(sandbox.destroyed for sandbox in backend.made)
    for task in running:
        task.cancel()
    await asyncio.wait(running)


async def test_a_command_that_waits_for_a_place_can_be_interrupted(small, backend, until):
    await small.list("a")
    await small.list("b")
    waiting = asyncio.create_task(small.shell("c", "x", timeout_s=9))
    await until(lambda: small._leases.waiting)

    await small.interrupt("c")

    assert (await waiting).verdict == "cancelled"
    assert (await small.status()).waiting == 0


async def test_a_session_that_is_released_waits_no_longer(small, until):
    await small.list("a")
    await small.list("b")
    waiting = asyncio.create_task(small.list("c"))
    await until(lambda: small._leases.waiting)

    await small.release("c")

    with pytest.raises(SandboxUnavailable, match="released"):
        await waiting


async def test_an_idle_one_is_frozen_and_goes_on_with_the_next_call(small, backend, later):
    await small.write("a", "f", b"1")
    await later(3)
    assert not backend.made[0].paused
    await later(2)
    assert backend.made[0].paused

    assert (await small.read("a", "f", max_bytes=9)).data == b"1"
    assert not backend.made[0].paused


async def test_one_that_cannot_be_woken_is_lost(small, backend, later):
    async def refuse():
        raise SandboxUnavailable("it stays frozen")

    await small.list("a")
    await later(6)
    backend.made[0].resume = refuse

    with pytest.raises(SandboxUnavailable, match="stays frozen"):
        await small.list("a")
    assert backend.made[0].destroyed
    assert (await small.shell("a", "x", timeout_s=1)).output == "sandbox 1"


async def test_one_that_cannot_be_frozen_is_used_as_before(small, backend, later):
    tried = []

    async def refuse():
        tried.append(1)
        raise SandboxUnavailable("no freezer")

    await small.list("a")
    backend.made[0].pause = refuse
    await later(20)

    assert tried == [1]
    assert (await small.shell("a", "x", timeout_s=1)).output == "sandbox 0"


async def test_a_lease_that_is_too_old_ends_when_nothing_runs(small, backend, later):
    for _ in range(11):
        await small.list("a")
        await later(90)
    assert not backend.made[0].destroyed
    await later(20)

    assert backend.made[0].destroyed
    assert (await small.status()).leased == 0


async def test_a_workspace_is_seen_before_it_goes_and_a_new_one_before_anybody_uses_it(
    small, backend, later, monkeypatch
):
    seen = []

    async def given(session_id, sandbox):
        seen.append(("given", session_id, sandbox.number, list(sandbox.commands)))

    async def given_up(session_id, sandbox):
        seen.append(("given up", session_id, sandbox.number, sandbox.paused))
        return True

    monkeypatch.setattr(small._workspaces, "given", given)
    monkeypatch.setattr(small._workspaces, "given_up", given_up)
    await small.shell("a", "x", timeout_s=1)
    await later(101)
    await small.shell("b", "x", timeout_s=1)
    await small.release("b")  # the session is over: nobody wants its files

    assert seen == [("given", "a", 0, []), ("given up", "a", 0, False), ("given", "b", 1, [])]


async def test_one_whose_workspace_could_not_be_prepared_is_given_to_nobody(small, backend, monkeypatch):
    async def fail(*_args):
        raise SandboxUnavailable("the files are not to be had")

    with monkeypatch.context() as patched:
        patched.setattr(small._workspaces, "given", fail)
        with pytest.raises(SandboxUnavailable, match="not to be had"):
            await small.list("a")
    assert backend.made[0].destroyed

    assert (await small.shell("a", "x", timeout_s=1)).output == "sandbox 1"


# Fences ---------------------------------------------------------------------------------------------


async def test_an_owner_that_was_overtaken_is_refused_and_what_it_runs_is_ended(host, backend, until):
    with bound(Fence(epoch=1)):
        await host.write("a", "f", b"1")
        backend.made[0].shell, answer = hang, backend.made[0].shell
        zombie = asyncio.create_task(host.shell("a", "x", timeout_s=60))
        await until(lambda: host._running._tasks.get("a"))
        await asyncio.sleep(0)
    backend.made[0].shell = answer

    with bound(Fence(epoch=2)):
        assert (await host.read("a", "f", max_bytes=9)).data == b"1"

    assert (await zombie).verdict == "cancelled"
    with bound(Fence(epoch=1)):
        with pytest.raises(LeaseEnded):
            await host.write("a", "f", b"late")
        with pytest.raises(LeaseEnded):
            await host.shell("a", "late", timeout_s=1)
    assert (await host.read("a", "f", max_bytes=9)).data == b"1"
    assert backend.made[0].commands == []


async def test_who_is_overtaken_while_it_waits_for_its_sandbox_does_nothing_in_it(host, backend, until):
    backend.gate.clear()
    with bound(Fence(epoch=1)):
        late = asyncio.create_task(host.write("a", "f", b"late"))
    await until(lambda: backend.creating)
    with bound(Fence(epoch=2)):
        owner = asyncio.create_task(host.list("a"))
    await asyncio.sleep(0)
    backend.gate.set()

    with pytest.raises(LeaseEnded):
        await late
    assert await owner == ()


async def test_a_call_for_a_lease_that_has_ended_touches_no_later_one(host, backend):
    first = await host.lease("a")
    await host.release("a")
    with bound(Fence(lease=first)), pytest.raises(LeaseEnded):
        await host.write("a", "f", b"late")
    assert not await host.holds("a")

    second = await host.lease("a")
    assert second > first
    with bound(Fence(lease=first)), pytest.raises(LeaseEnded):
        await host.write("a", "f", b"late")
    with bound(Fence(lease=second)):
        assert await host.list("a") == ()


async def test_numbers_of_leases_grow_over_a_restart(backend, clock):
    numbers = []
    for _ in range(2):
        host = SandboxHost(backend, SMALL, backend.capability, clock=clock)
        numbers += [await host.lease("a"), await host.lease("b")]
        await host.aclose()
    assert numbers == sorted(set(numbers))


async def test_metrics_tell_hits_misses_and_failures(warm_host, backend, until):
    def value(name, **labels):
        return telemetry.REGISTRY.get_sample_value(name, labels) or 0

    hits = value("agent_sandbox_acquired_total", warm="hit")
    failures = value("agent_sandbox_spawn_failures_total", cause="sandbox_unavailable")
    await warm_host.list("a")
    assert value("agent_sandbox_acquired_total", warm="hit") == hits + 1
    assert value("agent_sandbox_leased") == 1

    await until(lambda: len(warm_host._shelf) == 2)
    for sandbox in backend.made:
        sandbox.lost = True
    backend.failures = 9
    with pytest.raises(SandboxUnavailable):
        await warm_host.list("b")
    assert value("agent_sandbox_spawn_failures_total", cause="sandbox_unavailable") > failures
