"""Evidence out of a database: whole, page by page, and never of a moment that there was not."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from actors.agent.tables import EVENTS, SESSIONS
from actors.security.cipher import ClearText
from actors.testing import FakeClock, ScriptedLLM, says
from cluster.verify import Unrecognised, check_history
from cluster.verify.journal import JournalReader, KeepsChanging


async def ids(reader, since=None):
    return [session_id async for session_id in reader.session_ids(since)]


async def test_it_reads_what_the_journal_reads(open_place, told_home, good):
    home, _ = told_home
    async with open_place(home) as place:
        assert list(good.events) == list(await place.journal.read(good.session_id, after=0, limit=1000))
        assert len(good.events) > 7 * 2, "it took several pages"
        assert await place.evidence() == good
        row = await place.database.read(lambda c: c.execute(sa.select(SESSIONS)).one())
        assert (good.session.epoch, good.session.last_seq) == (row.epoch, row.last_seq)
        assert {turn.id for turn in good.turns} == {f"turn_{number}" for number in range(1, 9)}
        assert sum(attempt.is_told for attempt in good.attempts) == sum(
            event.body.type == "usage.updated" for event in good.events
        )


async def test_sessions_are_named_once_each_in_pages(open_place, monkeypatch):
    monkeypatch.setattr("cluster.verify.journal.PAGE_SESSIONS", 2)
    async with open_place() as place:
        host = place.host(ScriptedLLM(otherwise=says("ok")))
        for number in range(5):
            await host.chat(place.says("hi", session_id=f"sess_{number}"), wait_s=5)
        assert await ids(place.reader) == [f"sess_{number}" for number in range(5)]
        assert await place.reader.count() == 5


async def test_old_and_deleted_sessions_are_left_out(open_place):
    async with open_place() as place:
        host = place.host(ScriptedLLM(otherwise=says("ok")))
        await host.chat(place.says("hi", session_id="sess_old"), wait_s=5)
        place.clock.advance(3600)
        await host.chat(place.says("hi", session_id="sess_new"), wait_s=5)
        await host.chat(place.says("hi", session_id="sess_gone"), wait_s=5)
        await place.book.delete("sess_gone", "user_1")
        recently = place.clock.now() - timedelta(minutes=30)
        assert await ids(place.reader) == ["sess_new", "sess_old"]
        assert (await ids(place.reader, recently), await place.reader.count(recently)) == (["sess_new"], 1)
        assert await place.reader.read("sess_gone") is None
        assert await place.reader.read("sess_none") is None


class Hasty(FakeClock):
    """Pauses take no time."""

    async def sleep(self, seconds):
        pass


@pytest.fixture
def disturbed(monkeypatch):
    """A reader in whose reading somebody writes, again and again, after each page."""

    def disturbed(place, write):
        reader = JournalReader(place.database, ClearText(), Hasty(), page_events=7)
        read_pages = reader._pages

        async def pages(row):
            events = await read_pages(row)
            await write()
            return events

        monkeypatch.setattr(reader, "_pages", pages)
        return reader

    return disturbed


async def test_a_session_that_changes_meanwhile_is_read_to_its_end(open_place, disturbed):
    async with open_place() as place:
        host = place.host(ScriptedLLM(otherwise=says("ok")))
        await host.chat(place.says("hi"), wait_s=5)
        evidence = await disturbed(place, lambda: host.chat(place.says("more"), wait_s=5)).read("sess_1")
        assert evidence == await place.evidence()
        assert len(evidence.turns) == 2
        assert check_history([evidence], settled=True) == ()


async def test_a_session_that_is_deleted_meanwhile_is_none(open_place, disturbed):
    async with open_place() as place:
        await place.host(ScriptedLLM(otherwise=says("ok"))).chat(place.says("hi"), wait_s=5)
        assert await disturbed(place, lambda: place.book.delete("sess_1", "user_1")).read("sess_1") is None


async def test_a_session_that_is_trimmed_meanwhile_is_read_anew(open_place, disturbed):
    async with open_place() as place:
        host = place.host(ScriptedLLM(otherwise=says("ok")))
        await host.chat(place.says("old"), wait_s=5)
        place.clock.advance(3600)
        await host.chat(place.says("new"), wait_s=5)

        async def trim():
            await place.journal.trim(place.clock.now() - timedelta(minutes=1), limit=10)

        evidence = await disturbed(place, trim).read("sess_1")
        assert evidence.events[0].body.type == "history.trimmed"
        assert evidence.session.oldest_seq == evidence.events[0].seq > 1
        assert check_history([evidence], settled=True) == ()


async def test_a_session_that_is_trimmed_all_the_time_is_not_judged(open_place, disturbed):
    async with open_place() as place:
        await place.host(ScriptedLLM(otherwise=says("ok"))).chat(place.says("hi"), wait_s=5)

        async def trim():
            place.clock.advance(3600)
            # A host of its own, for a trim fences the one before.
            await place.host(ScriptedLLM(otherwise=says("ok"))).chat(place.says("more"), wait_s=5)
            await place.journal.trim(place.clock.now() - timedelta(minutes=1), limit=10)

        with pytest.raises(KeepsChanging, match="sess_1"):
            await disturbed(place, trim).read("sess_1")


async def test_events_of_a_newer_version_are_read(open_place):
    async with open_place() as place:
        host = place.host(ScriptedLLM(otherwise=says("ok")))
        await host.chat(place.says("hi"), wait_s=5)
        before = await place.evidence()
        payload = b'{"type": "subagent.started", "agent": "scout"}'
        row = {"session_id": "sess_1", "seq": before.session.last_seq + 1, "turn_id": None, "type": "subagent.started"}

        def newer(connection):
            connection.execute(sa.insert(EVENTS), {**row, "created_at": place.clock.now(), "payload": payload})
            connection.execute(sa.update(SESSIONS).values(last_seq=row["seq"]))

        await place.database.write(newer)
        evidence = await place.evidence()
        assert evidence.events[-1].body == Unrecognised("subagent.started", {"agent": "scout"})
        assert check_history([evidence], settled=True) == ()
        assert replace(evidence, events=evidence.events[:-1], session=before.session) == before
