"""Placement: spread first, then share; and care for what was cut off."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from actors.agent import directory as directory_module
from actors.agent.directory import Directory
from actors.agent.host import HostStatus
from actors.core.errors import AtCapacity, SessionLost
from actors.testing import FakeClock


class FakeFleet:
    """Hosts by name, and what is resident on each. A host in `silent` does not answer."""

    def __init__(self, *names: str, nodes: int = 1) -> None:
        self.resident: dict[str, set[str]] = {name: set() for name in names}
        self.node_count = nodes
        self.where: dict[str, str] = {}
        self.silent: set[str] = set()
        self.draining: set[str] = set()
        self.crashed: set[str] = set()
        self.going: dict[str, float] = {}
        self.retired: list[tuple[str, float]] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.woken: list[tuple[str, str]] = []
        self.stopped: list[str] = []
        self.started = 0
        self.room = 100
        self.slow = asyncio.Event()
        self.slow.set()
        self.on_stop: Callable[[], Any] | None = None

    async def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.resident))

    async def machines(self) -> dict[str, frozenset[str]]:
        there: dict[str, set[str]] = {f"node{n}": set() for n in range(self.node_count)}
        for name in self.resident:
            if (place := self.where.get(name, "node0")) in there:
                there[place].add(name)
        return {node: frozenset(names) for node, names in there.items()}

    async def start(self) -> str:
        await self.slow.wait()
        if len(self.resident) >= self.room:
            raise AtCapacity
        self.started += 1
        name = f"new{self.started}"
        there = await self.machines()
        self.where[name] = min(there, key=lambda node: len(there[node]))
        self.resident[name] = set()
        return name

    async def status(self, name: str) -> HostStatus | None:
        if name in self.crashed:
            raise SessionLost
        if name in self.silent:
            return None
        return HostStatus(tuple(sorted(self.resident[name])), 0, name in self.draining)

    async def wake(self, name: str, session_id: str) -> None:
        if name in self.silent:
            raise SessionLost
        self.woken.append((name, session_id))
        self.resident[name].add(session_id)

    async def leaving(self) -> dict[str, float]:
        return {name: left for name, left in self.going.items() if name in self.resident}

    async def ended(self, name: str) -> None:
        await self.ends.setdefault(name, asyncio.Event()).wait()

    async def retire(self, name: str, *, within_s: float) -> None:
        self.retired.append((name, within_s))
        self.draining.add(name)

    async def stop(self, name: str) -> None:
        self.stopped.append(name)
        if self.on_stop is not None:
            await self.on_stop()
        self.resident.pop(name, None)

    def die(self, name: str) -> None:
        del self.resident[name]

    def crash(self, name: str) -> None:
        """Its process is gone, and its name stays: another process is on its way."""
        self.resident[name].clear()
        self.crashed.add(name)
        self.ends.pop(name, asyncio.Event()).set()


class Unfinished:
    """A journal of which only the list of unfinished sessions is asked, oldest first."""

    def __init__(self) -> None:
        self.sessions: list[str] = []

    async def exists(self, session_id: str) -> bool:
        return True

    async def unfinished(self, *, limit: int) -> tuple[str, ...]:
        return tuple(self.sessions[:limit])


@pytest.fixture
def journal() -> Unfinished:
    return Unfinished()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds wait this long, by the real clock, for what does not answer."""
    monkeypatch.setattr(directory_module, "LOOK_S", 0.05)
    monkeypatch.setattr(directory_module, "WAKE_S", 0.05)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make(journal: Unfinished, clock: FakeClock) -> Callable[..., Directory]:
    def make(fleet: FakeFleet, *, warm: int = 2, most: int = 4, each: int = 1000) -> Directory:
        return Directory(
            fleet,
            journal,  # pyright: ignore[reportArgumentType] # only `unfinished` is asked
            clock=clock,
            silent_s=10,
            warm_per_node=warm,
            max_per_node=most,
            sessions_per_host=each,
        )

    return make


async def arrive(directory: Directory, fleet: FakeFleet, *sessions: str) -> list[str]:
    """Locate sessions, and let them be resident where the directory said."""
    found: list[str] = []
    for session_id in sessions:
        name = await directory.locate(session_id)
        fleet.resident[name].add(session_id)
        found.append(name)
    return found


async def test_the_first_round_starts_the_warm_hosts(make: Any) -> None:
    fleet = FakeFleet(nodes=2)
    directory = make(fleet)
    await directory.tend()
    assert len(fleet.resident) == 4
    await directory.tend()
    assert len(fleet.resident) == 4


async def test_sessions_are_spread_before_they_share(make: Any) -> None:
    fleet = FakeFleet("a", "b", "c")
    directory = make(fleet, warm=3)
    await directory.tend()
    found = await arrive(directory, fleet, *(f"sess_{n}" for n in range(9)))
    assert set(found[:3]) == {"a", "b", "c"}
    assert set(Counter(found).values()) == {3}
    assert directory.status().hosts == {"a": 3, "b": 3, "c": 3}


async def test_a_known_session_stays_where_it_is(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await arrive(directory, fleet, *(f"other_{n}" for n in range(5)))
    await directory.tend()
    assert await directory.locate("sess_1") == first


async def test_full_hosts_make_the_fleet_grow_up_to_its_cap_and_then_share(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet, most=3, each=2)
    await directory.tend()
    found = await arrive(directory, fleet, *(f"sess_{n}" for n in range(6)))
    assert Counter(found) == {"a": 2, "b": 2, "new1": 2}
    (shared,) = await arrive(directory, fleet, "one_more")
    assert (shared in {"a", "b", "new1"}, fleet.started) == (True, 1)


async def test_where_no_machine_has_room_the_least_full_host_takes_more(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    fleet.room = 2
    directory = make(fleet, each=1, warm=1)
    await directory.tend()
    await arrive(directory, fleet, "sess_1", "sess_2")
    assert await directory.locate("sess_3") in {"a", "b"}


async def test_without_any_host_it_says_so(make: Any) -> None:
    fleet = FakeFleet()
    fleet.room = 0
    with pytest.raises(AtCapacity):
        await make(fleet).locate("sess_1")


async def test_dedicated_every_session_has_a_host_of_its_own(make: Any) -> None:
    fleet = FakeFleet()
    directory = make(fleet, warm=2, most=8, each=1)
    await directory.tend()
    found = await arrive(directory, fleet, *(f"sess_{n}" for n in range(5)))
    assert len(set(found)) == 5
    # And two more are kept warm for the next ones.
    await directory.tend()
    assert sum(not sessions for sessions in fleet.resident.values()) == 2


async def test_dedicated_a_host_that_was_used_is_not_used_for_another_session(make: Any) -> None:
    fleet = FakeFleet()
    directory = make(fleet, warm=1, most=8, each=1)
    await directory.tend()
    (used,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    fleet.resident[used].clear()  # passivated
    await directory.tend()
    assert fleet.stopped == [used]
    assert await directory.locate("sess_2") != used


async def test_spare_empty_hosts_are_ended(make: Any) -> None:
    fleet = FakeFleet("a", "b", "c", "d")
    fleet.resident["b"].add("sess_1")
    directory = make(fleet, warm=2)
    await directory.tend()
    assert len(fleet.resident) == 2
    assert "b" in fleet.resident


async def test_two_who_ask_for_one_new_session_get_one_answer(make: Any) -> None:
    """Two answers would make two hosts take it from each other."""
    fleet = FakeFleet("a")
    directory = make(fleet, warm=1, each=1, most=8)
    await directory.tend()
    await arrive(directory, fleet, "sess_0")
    fleet.slow.clear()  # the fleet is full: a host has to be started first
    tasks = [asyncio.create_task(directory.locate("sess_1")) for _ in range(3)]
    await asyncio.sleep(0)
    fleet.slow.set()
    done, _ = await asyncio.wait(tasks, timeout=5)
    assert len({task.result() for task in done}) == 1
    assert fleet.started == 1


async def test_a_host_that_failed_a_caller_is_left_until_it_answers(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    second = await directory.locate("sess_1", failed=first)
    assert second != first
    assert directory.status().silent == (first,)
    await directory.tend()
    assert directory.status().silent == ()


async def test_sessions_of_a_dead_host_go_elsewhere(make: Any, journal: Unfinished) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    fleet.die(first)
    journal.sessions = ["sess_1"]
    await directory.tend()
    ((name, woken),) = fleet.woken
    assert (woken, name in fleet.resident) == ("sess_1", True)
    assert await directory.locate("sess_1") == name


async def test_a_silent_host_keeps_its_sessions_until_it_is_known_to_be_gone(make: Any, journal: Unfinished) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    fleet.silent.add(first)
    journal.sessions = ["sess_1"]
    for _ in range(3):
        await directory.tend()
    assert fleet.woken == []
    fleet.die(first)
    await directory.tend()
    assert [session_id for _, session_id in fleet.woken] == ["sess_1"]


async def test_a_draining_host_keeps_its_turns_and_gets_no_new_sessions(make: Any, journal: Unfinished) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    fleet.draining.add(first)
    journal.sessions = ["sess_1"]
    await directory.tend()
    assert fleet.woken == []
    assert {await directory.locate(f"new_{n}") for n in range(4)}.isdisjoint({first})


async def test_after_a_restart_it_asks_the_fleet_where_everything_is(make: Any, journal: Unfinished) -> None:
    fleet = FakeFleet("a", "b")
    fleet.resident["b"] |= {"sess_1", "sess_2"}
    journal.sessions = ["sess_1", "sess_3"]
    directory = make(fleet)
    await directory.tend()
    assert [await directory.locate(s) for s in ("sess_1", "sess_2")] == ["b", "b"]
    assert fleet.woken == [("a", "sess_3")]
    assert directory.status().sessions == 3


async def test_a_session_that_could_not_be_woken_is_tried_again_in_the_next_round(
    make: Any, journal: Unfinished
) -> None:
    class Shaky(FakeFleet):
        failures = 2

        async def wake(self, name: str, session_id: str) -> None:
            if self.failures:
                self.failures -= 1
                raise SessionLost
            await super().wake(name, session_id)

    fleet = Shaky("a")
    journal.sessions = ["sess_1"]
    directory = make(fleet, warm=1)
    for _ in range(3):
        await directory.tend()
    assert fleet.woken == [("a", "sess_1")]


async def test_a_session_that_is_on_its_way_is_not_woken_too(make: Any, journal: Unfinished, clock: FakeClock) -> None:
    fleet = FakeFleet("a")
    directory = make(fleet, warm=1)
    await directory.tend()
    await directory.locate("sess_1")
    journal.sessions = ["sess_1"]
    await directory.tend()
    assert fleet.woken == []
    clock.advance(5.1)  # whoever was sent there did not arrive
    await directory.tend()
    assert fleet.woken == [("a", "sess_1")]


async def test_a_session_that_cannot_be_woken_does_not_stop_the_others(make: Any, journal: Unfinished) -> None:
    class Picky(FakeFleet):
        async def wake(self, name: str, session_id: str) -> None:
            if session_id == "broken":
                raise SessionLost
            await super().wake(name, session_id)

    fleet = Picky("a")
    journal.sessions = ["broken", "sess_1"]
    await make(fleet, warm=1).tend()
    assert fleet.woken == [("a", "sess_1")]


async def test_no_room_for_warm_hosts_does_not_keep_cut_off_turns_from_going_on(make: Any, journal: Unfinished) -> None:
    fleet = FakeFleet("a")
    fleet.room = 1
    journal.sessions = ["sess_1"]
    directory = make(fleet, warm=2)
    await directory.tend()
    assert fleet.woken == [("a", "sess_1")]


async def test_many_long_turns_do_not_hide_a_younger_one_that_was_cut_off(make: Any, journal: Unfinished) -> None:
    fleet = FakeFleet("a", "b")
    running = [f"sess_{n}" for n in range(150)]
    fleet.resident["a"] |= set(running)
    journal.sessions = [*running, "cut_off"]
    await make(fleet).tend()
    assert [session_id for _, session_id in fleet.woken] == ["cut_off"]


async def test_a_host_is_not_ended_while_its_first_session_is_on_the_way(make: Any) -> None:
    """The caller was sent there and has not arrived: what the host says of itself is older than that."""
    fleet = FakeFleet()
    directory = make(fleet, warm=1, most=8, each=1)
    await directory.tend()
    name = await directory.locate("sess_1")
    await directory.tend()
    assert name in fleet.resident


async def test_a_host_that_gets_a_session_while_another_one_is_ended_is_kept(make: Any) -> None:
    fleet = FakeFleet("a", "b", "c")
    directory = make(fleet, warm=1)
    placed: list[str] = []

    async def meanwhile() -> None:
        placed.append(await directory.locate(f"sess_{len(placed)}"))

    fleet.on_stop = meanwhile
    await directory.tend()
    assert set(placed) <= set(fleet.resident)


async def test_a_session_whose_host_filled_up_meanwhile_is_placed_where_there_is_room(
    make: Any, clock: FakeClock
) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet, each=2, most=2)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    fleet.resident[first] = {"other_1", "other_2"}  # it was idle and left memory, and others came
    clock.advance(5.1)
    await directory.look()
    assert await directory.locate("sess_1") != first


async def test_a_host_is_not_ended_under_a_session_that_comes_back_to_it(make: Any, clock: FakeClock) -> None:
    fleet = FakeFleet("a", "b", "c")
    directory = make(fleet, warm=1)
    await directory.look()
    places = await arrive(directory, fleet, "sess_1", "sess_2", "sess_3")
    clock.advance(5.1)
    fleet.resident[places[2]].clear()  # it was idle and left memory
    await directory.look()
    assert await directory.locate("sess_3") == places[2]
    await directory.keep_warm()
    assert fleet.stopped == []


async def test_who_found_a_host_full_is_sent_to_each_of_the_others_and_told_when_all_are(make: Any) -> None:
    """The directory may think that there is room: what has just been placed elsewhere is busy there still."""
    fleet = FakeFleet("a", "b")
    directory = make(fleet, most=2)
    await directory.tend()
    first = await directory.locate("sess_1")
    second = await directory.locate("sess_1", full=(first,))
    assert {first, second} == {"a", "b"}
    assert await directory.locate("sess_1") == second
    assert directory.status().hosts == {first: 0, second: 1}
    with pytest.raises(AtCapacity):
        await directory.locate("sess_1", full=(first, second))
    assert directory.status().sessions == 0


# Hosts that are lost, stand still, or have to go ------------------------------------------------------


async def test_sessions_of_a_process_that_is_gone_are_woken_before_its_name_is(make: Any, journal: Unfinished) -> None:
    """Ray starts the process again under the same name: the fleet's list does not change."""
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    journal.sessions = ["sess_1"]
    fleet.crash(first)
    await directory.tend()
    ((name, woken),) = fleet.woken
    assert (woken, name != first) == ("sess_1", True)


async def test_a_process_that_ends_is_noticed_between_the_rounds(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    resting = asyncio.create_task(directory.rest(60))
    await asyncio.sleep(0)
    fleet.crash("a")
    async with asyncio.timeout(5):
        await resting
    assert directory.status().silent == ("a",)
    assert await directory.locate("sess_1") == "b"


async def test_a_host_that_stands_still_for_too_long_loses_its_turns_to_others(
    make: Any, journal: Unfinished, clock: FakeClock
) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    journal.sessions = ["sess_1"]
    fleet.silent.add(first)
    await directory.tend()
    clock.advance(9.9)
    await directory.tend()
    assert fleet.woken == []
    clock.advance(0.2)
    await directory.tend()
    assert [session_id for _, session_id in fleet.woken] == ["sess_1"]


async def test_the_old_copy_of_a_host_that_comes_back_is_no_place_of_the_session(
    make: Any, journal: Unfinished, clock: FakeClock
) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    journal.sessions = ["sess_1"]
    fleet.silent.add(first)
    await directory.tend()
    clock.advance(10)
    await directory.tend()
    ((second, _),) = fleet.woken
    fleet.silent.clear()  # it goes on, and still lists the session
    await directory.tend()
    assert await directory.locate("sess_1") == second
    # Neither does the old copy pass for the turn when the new host dies.
    fleet.die(second)
    await directory.tend()
    assert [session_id for _, session_id in fleet.woken] == ["sess_1", "sess_1"]


async def test_a_host_that_is_silent_holds_up_neither_the_rounds_nor_the_others(make: Any, journal: Unfinished) -> None:
    class Mute(FakeFleet):
        async def status(self, name: str) -> HostStatus | None:
            if name in self.silent:
                await asyncio.Event().wait()
            return await super().status(name)

    fleet = Mute("a", "b", "c")
    directory = make(fleet, warm=3)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.locate("other", failed=first)
    fleet.silent.add(first)
    journal.sessions = ["cut_off"]
    async with asyncio.timeout(2):
        await directory.tend()
    assert [session_id for _, session_id in fleet.woken] == ["cut_off"]
    directory.close()


async def test_a_host_that_answers_late_keeps_its_sessions(make: Any, journal: Unfinished, clock: FakeClock) -> None:
    """A machine with too much to do is slow, and to begin its turns anew elsewhere would be more to do."""

    class Late(FakeFleet):
        late: ClassVar[dict[str, asyncio.Event]] = {}

        async def status(self, name: str) -> HostStatus | None:
            if name in self.late:
                await self.late[name].wait()
            return await super().status(name)

    fleet = Late("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    journal.sessions = ["sess_1"]
    for _ in range(4):
        fleet.late[first] = asyncio.Event()
        await directory.tend()
        clock.advance(9)
        await directory.tend()
        assert directory.status().silent == (first,)
        fleet.late.pop(first).set()
        await asyncio.sleep(0)
        await directory.tend()
        assert directory.status().silent == ()
    assert fleet.woken == []
    fleet.late[first] = asyncio.Event()
    await directory.tend()
    clock.advance(10)
    await directory.tend()
    assert [session_id for _, session_id in fleet.woken] == ["sess_1"]
    directory.close()


async def test_a_wake_that_takes_long_holds_up_neither_the_rounds_nor_the_others(
    make: Any, journal: Unfinished
) -> None:
    class Slow(FakeFleet):
        async def wake(self, name: str, session_id: str) -> None:
            if session_id == "large":
                await asyncio.Event().wait()
            await super().wake(name, session_id)

    fleet = Slow("a")
    journal.sessions = ["large", *(f"sess_{n}" for n in range(30))]
    directory = make(fleet, warm=1)
    async with asyncio.timeout(10):
        await directory.tend()
    assert len(fleet.woken) == 30
    directory.close()


async def test_a_wake_that_hangs_on_a_host_that_is_given_up_is_begun_anew_elsewhere(
    make: Any, journal: Unfinished, clock: FakeClock
) -> None:
    class Hangs(FakeFleet):
        stuck: ClassVar[set[str]] = set()

        async def wake(self, name: str, session_id: str) -> None:
            if name in self.stuck:
                await asyncio.Event().wait()
            await super().wake(name, session_id)

    fleet = Hangs("a", "b")
    directory = make(fleet)
    await directory.tend()
    journal.sessions = ["sess_1"]
    fleet.stuck.add("a")
    await directory.tend()
    assert (await directory.locate("sess_1"), fleet.woken) == ("a", [])
    fleet.silent.add("a")
    await directory.tend()
    clock.advance(10)
    await directory.tend()
    assert fleet.woken == [("b", "sess_1")]


async def test_a_host_on_a_machine_that_leaves_gets_no_sessions_and_keeps_its_turns(
    make: Any, journal: Unfinished
) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    fleet.going = {first: 60.0}
    journal.sessions = ["sess_1"]
    for _ in range(3):
        await directory.tend()
    assert fleet.retired == [(first, 60.0)]
    assert fleet.woken == []
    assert {await directory.locate(f"new_{n}") for n in range(4)}.isdisjoint({first})
    # Who follows the turn, or sends another message, is sent to where it runs.
    assert await directory.locate("sess_1") == first
    assert directory.status().leaving == (first,)


async def test_what_has_left_a_host_that_has_to_go_goes_on_elsewhere(make: Any, journal: Unfinished) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    await directory.tend()
    fleet.going = {first: 60.0}
    journal.sessions = ["sess_1"]
    await directory.tend()
    fleet.resident[first].clear()  # its turn ended there, and another one waits
    await directory.tend()
    ((name, woken),) = fleet.woken
    assert (woken, name != first) == ("sess_1", True)


async def test_who_was_refused_by_a_host_that_has_to_go_is_sent_elsewhere_at_once(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet)
    await directory.tend()
    (first,) = await arrive(directory, fleet, "sess_1")
    fleet.going = {first: 60.0}
    await directory.tend()
    assert await directory.locate("sess_1") == first
    assert await directory.locate("sess_1", refused=first) != first


async def test_each_machine_has_its_warm_hosts_however_many_there_are_on_the_others(make: Any) -> None:
    """Those of a machine that was lost start again on the others: one that joins would get none."""
    fleet = FakeFleet("a", "b", "c", "d")
    for name in fleet.resident:
        fleet.resident[name].add(f"of_{name}")
    directory = make(fleet)
    await directory.tend()
    assert fleet.started == 0
    fleet.node_count = 2
    await directory.tend()
    assert (fleet.started, set(fleet.where.values())) == (2, {"node1"})


async def test_a_host_that_has_to_go_is_replaced(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet, most=2)
    await directory.tend()
    fleet.going = {"a": 60.0}
    await directory.tend()
    assert fleet.started == 1
    assert fleet.stopped == []


async def test_a_machine_never_gets_more_hosts_than_it_may_run_however_many_ask(make: Any) -> None:
    """A session that needs a host and the care for the warm number start one each, at the same moment."""
    fleet = FakeFleet("a")
    directory = make(fleet, warm=1, most=2, each=1)
    await directory.tend()
    await arrive(directory, fleet, "sess_1")
    await directory.look()
    fleet.slow.clear()
    needed = asyncio.create_task(directory.locate("sess_2"))
    await asyncio.sleep(0)
    caring = asyncio.create_task(directory.keep_warm())
    await asyncio.sleep(0)
    fleet.slow.set()
    await asyncio.gather(needed, caring)
    assert len(fleet.resident) == 2


async def test_a_host_that_is_being_ended_counts_until_it_is_gone_and_gets_nothing(make: Any) -> None:
    fleet = FakeFleet("a", "b")
    directory = make(fleet, warm=1, most=2)
    await directory.look()
    placed: list[str] = []

    async def meanwhile() -> None:
        placed.append(await directory.locate("sess_1"))

    fleet.on_stop = meanwhile
    await directory.keep_warm()
    assert placed != []
    assert placed[0] not in fleet.stopped
    assert fleet.started == 0
