"""Health, readiness and life: what every probe says, whatever the parts do."""

import asyncio
from datetime import datetime

import pytest

from actors.core.errors import StoreUnavailable
from actors.testing import FakeClock
from serve_app import health
from serve_app.services import CheckResult

PROBES = ["/health", "/ready"]


async def check_database() -> CheckResult:
    return CheckResult("database", "healthy", "sqlite")


async def check_sandbox() -> CheckResult:
    return CheckResult("sandbox", "warning", "tools that run code are off")


async def check_sessions() -> CheckResult:
    return CheckResult("sessions", "unhealthy", "no session actor is there")


async def check_store() -> CheckResult:
    raise StoreUnavailable("the database does not answer: timeout")


async def check_broken() -> CheckResult:
    raise RuntimeError("a defect of the check")


async def check_slow() -> CheckResult:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
async def probed(make_edge):
    async def probe(path, *checks, **services):
        edge = await make_edge(services={"checks": checks, **services})
        return await edge.http.get(path)

    return probe


async def test_the_report_is_complete(make_edge):
    clock = FakeClock()
    edge = await make_edge(services={"checks": (check_database, check_sandbox), "clock": clock, "started": 0.0})
    clock.advance(90)

    body = (await edge.http.get("/health")).json()

    assert datetime.fromisoformat(body.pop("timestamp")) == clock.now()
    assert body == {
        "status": "warning",
        "checks": [
            {"name": "database", "status": "healthy", "message": "sqlite", "loading": False},
            {"name": "sandbox", "status": "warning", "message": "tools that run code are off", "loading": False},
        ],
        "uptime": 90,
        "version": "1.2.3",
    }


@pytest.mark.parametrize(
    ("checks", "status", "health", "ready"),
    [
        ((), "healthy", 200, 200),
        ((check_database,), "healthy", 200, 200),
        ((check_sandbox, check_database), "warning", 200, 200),
        ((check_database, check_sessions), "unhealthy", 200, 503),
        ((check_sessions, check_sandbox), "unhealthy", 200, 503),
        ((check_store,), "unhealthy", 200, 503),
        ((check_broken, check_database), "unhealthy", 200, 503),
    ],
    ids=["nothing", "good", "warning", "bad", "worst counts", "raises ours", "raises anything"],
)
@pytest.mark.parametrize("path", PROBES)
async def test_only_what_is_unhealthy_makes_it_unready(probed, path, checks, status, health, ready):
    response = await probed(path, *checks)

    assert response.status_code == (ready if path == "/ready" else health)
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["status"] == status
    assert len(body["checks"]) == len(checks)


async def test_what_a_failing_check_says_is_told(probed):
    body = (await probed("/ready", check_store)).json()

    assert body["checks"] == [
        {"name": "store", "status": "unhealthy", "message": "the database does not answer: timeout", "loading": False}
    ]


@pytest.mark.parametrize("path", PROBES)
async def test_a_check_that_hangs_is_unhealthy_after_its_deadline_and_holds_nobody_up(probed, path, monkeypatch):
    monkeypatch.setattr(health, "CHECK_S", 0.05)

    async with asyncio.timeout(5):
        body = (await probed(path, check_slow, check_database)).json()

    assert body["checks"][0] == {
        "name": "slow",
        "status": "unhealthy",
        "message": "no answer within 0.05 s",
        "loading": False,
    }
    assert body["checks"][1]["status"] == "healthy"


async def test_checks_run_side_by_side(probed):
    both = asyncio.Barrier(2)

    async def check_one() -> CheckResult:
        await both.wait()
        return CheckResult("one", "healthy", "")

    async def check_two() -> CheckResult:
        await both.wait()
        return CheckResult("two", "healthy", "")

    assert (await probed("/health", check_one, check_two)).json()["status"] == "healthy"


async def test_life_asks_nobody(probed):
    async def check_never() -> CheckResult:
        raise AssertionError("/livez asked")

    assert (await probed("/livez", check_never)).json() == {"status": "alive"}
