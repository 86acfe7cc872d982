"""Questions to the head of the cluster: none of them holds up the one who asks, and who was met needs none."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from actors import register
from actors.register import HUNG_MAX, HeadAway, NotRegistered, Register


class Head:
    """Ray's side: actors by name. While it is `away`, whoever asks hangs in a thread."""

    def __init__(self) -> None:
        self.actors = {"a": object(), "b": object()}
        self.back = threading.Event()
        self.back.set()
        self.asked = 0

    def get_actor(self, name, namespace):
        self.asked += 1
        self.back.wait(20)
        if name not in self.actors:
            raise ValueError(name)
        return self.actors[name]

    def list_named_actors(self, *, all_namespaces):
        self.asked += 1
        self.back.wait(20)
        return [{"name": name, "namespace": "ours"} for name in self.actors] + [{"name": "c", "namespace": "others"}]


@pytest.fixture
def head(monkeypatch):
    head = Head()
    monkeypatch.setattr(register, "ASK_S", 0.05)
    monkeypatch.setattr(register, "AWAY_S", 0.0)
    monkeypatch.setattr(
        register,
        "_ray",
        SimpleNamespace(get_actor=head.get_actor, util=SimpleNamespace(list_named_actors=head.list_named_actors)),
    )
    yield head
    head.back.set()


@pytest.fixture
def away(head):
    def go() -> None:
        head.back.clear()

    return go


async def test_who_was_met_is_found_without_a_question(head):
    ours = Register("ours")
    assert await ours.find("a") is head.actors["a"]
    assert await ours.find("a") is head.actors["a"]
    assert (head.asked, ours.has_met("a")) == (1, True)


async def test_who_is_doubted_is_looked_up_again(head):
    ours = Register("ours")
    await ours.find("a")
    head.actors["a"] = successor = object()
    ours.doubt("a")
    assert await ours.find("a") is successor
    del head.actors["a"]
    ours.doubt("a")
    with pytest.raises(NotRegistered):
        await ours.find("a")
    assert not ours.has_met("a")


async def test_names_are_those_of_its_own_namespace(head):
    ours = Register("ours")
    assert await ours.names("") == ("a", "b")
    assert set(await ours.all("a")) == {"a"}


async def test_while_the_head_is_away_those_who_were_met_are_found_and_nobody_else(head, away):
    ours = Register("ours")
    await ours.find("a")
    ours.doubt("a")
    away()
    assert await ours.find("a") is head.actors["a"]
    assert set(await ours.all("")) == {"a"}
    for ask in (lambda: ours.find("b"), lambda: ours.names(""), lambda: ours.all("b")):
        with pytest.raises(HeadAway):
            await ask()


async def test_those_who_ask_the_same_at_the_same_time_share_a_question(head, away):
    ours = Register("ours")
    away()
    asking = [asyncio.create_task(ours.find("a")) for _ in range(50)]
    await asyncio.wait(asking)
    assert all(isinstance(task.exception(), HeadAway) for task in asking)
    assert head.asked == 1


async def test_only_so_many_threads_hang_on_a_head_that_is_away_and_it_is_asked_again_when_it_is_back(head, away):
    ours = Register("ours")
    away()
    for number in range(HUNG_MAX + 5):
        with pytest.raises(HeadAway):
            await ours.find(f"name-{number}")
    assert head.asked == HUNG_MAX
    head.back.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await ours.find("a") is head.actors["a"]
                break
            except HeadAway:
                await asyncio.sleep(0.01)


async def test_what_is_done_in_a_thread_raises_what_it_raised():
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await Register("ours").run(fail)


async def test_who_is_met_is_called_once_and_again_after_a_doubt(head):
    ours = Register("ours")
    greeted = []

    async def greet(actor) -> None:
        greeted.append(actor)

    for _ in range(3):
        await ours.meet("a", greet)
    assert greeted == [head.actors["a"]]
    ours.doubt("a")
    await ours.meet("a", greet)
    assert len(greeted) == 2
