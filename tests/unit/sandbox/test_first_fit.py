"""The first backend that is strong enough is taken, and the others are neither asked nor left open."""

import asyncio

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import Capability, Level, Limits, Missing
from actors.sandbox.first_fit import FirstFitBackend


class Backend:
    def __init__(self, name, level, *missing):
        self.capability = Capability(name, level, missing=missing)
        self.probes = 0
        self.closed = False

    async def probe(self):
        self.probes += 1
        return self.capability

    async def build(self):
        return f"what {self.capability.backend} makes"

    async def create(self, limits):
        return (self.capability.backend, limits)

    async def aclose(self):
        self.closed = True


@pytest.fixture
def weak():
    return Backend("weak", Level.NAMESPACE)


@pytest.fixture
def strong():
    return Backend("strong", Level.CONTAINER)


@pytest.fixture
def broken():
    return Backend("broken", Level.NONE, Missing("a daemon", "start one"))


def first_fit(require, *backends):
    return FirstFitBackend([lambda each=each: each for each in backends], require)


async def test_what_comes_after_the_first_fit_is_not_made(weak):
    def never():
        pytest.fail("it was made")

    backend = FirstFitBackend([lambda: weak, never], Level.NAMESPACE)

    assert (await backend.probe()).backend == "weak"
    assert await backend.create(Limits()) == ("weak", Limits())
    assert await backend.build() == "what weak makes"
    await backend.aclose()
    assert weak.closed


async def test_a_weaker_one_is_passed_by_and_closed(weak, strong):
    backend = first_fit(Level.CONTAINER, weak, strong)

    assert (await backend.probe()).backend == "strong"
    assert weak.closed
    assert not strong.closed
    assert (await backend.probe()).backend == "strong"
    assert (weak.probes, strong.probes) == (1, 2)


async def test_without_a_probe_the_first_call_asks(broken, strong):
    assert await first_fit(Level.NAMESPACE, broken, strong).create(Limits()) == ("strong", Limits())


async def test_a_probe_that_is_given_up_leaves_nothing_open(weak):
    began = asyncio.Event()

    async def hang():
        began.set()
        await asyncio.Event().wait()

    weak.probe = hang
    probing = asyncio.create_task(first_fit(Level.NAMESPACE, weak).probe())
    await began.wait()
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing

    assert weak.closed


async def test_what_no_one_reaches_is_reported_of_all(weak, broken):
    backend = first_fit(Level.CONTAINER, weak, broken)
    capability = await backend.probe()

    assert (capability.backend, capability.level) == ("weak", Level.NAMESPACE)
    assert [gap.what for gap in capability.missing] == ["weak: more than level namespace", "broken: a daemon"]
    assert "GREENROOM_SANDBOX_MIN_LEVEL" in capability.missing[0].fix
    assert capability.missing[1].fix == "start one"
    assert weak.closed
    assert broken.closed
    with pytest.raises(SandboxUnavailable, match="broken: a daemon"):
        await backend.create(Limits())


@pytest.mark.parametrize(
    ("level", "required", "reached"),
    [
        (Level.NONE, Level.NONE, False),
        (Level.NONE, Level.NAMESPACE, False),
        (Level.NAMESPACE, Level.NAMESPACE, True),
        (Level.NAMESPACE, Level.CONTAINER, False),
        (Level.GVISOR, Level.CONTAINER, True),
    ],
)
def test_levels_are_in_order(level, required, reached):
    assert level.reaches(required) is reached
