"""Emptying a machine while the head of the cluster is slow to answer."""

import pytest

from actors import vacate
from actors.core.errors import UnavailableError
from actors.core.settings import Settings
from actors.register import HeadAway, NotRegistered


class SlowHead:
    """A register whose head answers late at first: by then the session actor that it is asked for is gone."""

    def __init__(self, late: int) -> None:
        self.late = late

    async def run(self, _question) -> None:
        return None

    async def names(self, prefix: str) -> tuple[str, ...]:
        return ("session:0",) if prefix == vacate.SESSION_PREFIX else ()

    async def find(self, name: str):
        if self.late > 0:
            self.late -= 1
            raise HeadAway("the head did not answer")
        raise NotRegistered(name)

    def doubt(self, _name: str) -> None:
        return None


async def emptied(monkeypatch, late: int, within_s: float = 5.0) -> vacate.Vacated:
    monkeypatch.setattr(vacate, "POLL_S", 0.0)
    monkeypatch.setattr(vacate, "Register", lambda _namespace: SlowHead(late))
    return await vacate.vacate(Settings(), "node", within_s=within_s)


async def test_a_late_answer_is_asked_for_again(monkeypatch):
    vacated = await emptied(monkeypatch, late=2)
    assert vacated.hosts == ("session:0",)
    assert vacated.left == ()


async def test_a_head_that_stays_away_is_told(monkeypatch):
    with pytest.raises(UnavailableError, match="could not be emptied"):
        await emptied(monkeypatch, late=1000, within_s=0.0)
