"""The workspace by handles: the same policy and audit as over HTTP, in a process of its own."""

import asyncio

import pytest

from actors.core.clock import SystemClock
from actors.core.errors import InvalidInput, SessionNotFound
from actors.core.ids import uuid7_ids
from actors.core.settings import Settings
from actors.sandbox.base import ExecResult, FileInfo, PolicyRefused, WorkspaceError
from actors.security.audit import SqlAudit
from actors.security.cipher import ClearText
from actors.session_handle import Greenroom, SessionHandle
from actors.store.migrate import upgrade
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring.store import open_database
from actors.wiring.workspaces import WorkspacesOnDemand


@pytest.fixture
def sandboxes():
    return FakeSandboxes({"wc -l x": ExecResult("ok", 0, "2 x\n"), "print(1)": ExecResult("ok", 0, "1\n")})


@pytest.fixture
def settings(tmp_path):
    made = Settings(home=tmp_path)
    upgrade(made.resolved_database_url)
    return made


@pytest.fixture
def greenroom(settings, sandboxes):
    clock = SystemClock()
    new_id = uuid7_ids(clock)
    workspaces = WorkspacesOnDemand(settings, sandboxes, clock=clock, new_id=new_id)
    sessions = None  # no message is sent here
    yield Greenroom(sessions, "user_1", "scripted", workspaces, new_id)
    workspaces.close()


async def test_a_new_session_can_be_worked_in_before_its_first_message(greenroom, settings):
    session = await greenroom.session()
    printed = []
    await session.write_file("a/x", "1\n2\n")
    ended = await session.exec("wc -l x", on_output=printed.append)
    await asyncio.sleep(0)
    assert (ended.verdict, ended.output, printed) == ("ok", "2 x\n", ["2 x\n"])
    assert (await session.exec(python="print(1)")).output == "1\n"
    assert await session.read_file("a/x") == b"1\n2\n"
    assert await session.files("a") == (FileInfo("a/x", 4),)
    with pytest.raises(WorkspaceError):
        await session.delete_file("a")
    await session.delete_file("a", recursive=True)
    assert await session.files() == ()

    async with open_database(settings) as database:
        records = await SqlAudit(database, ClearText()).read(session.id, limit=100)
    assert [(r.action, r.decision) for r in records] == [
        ("file.write", "allowed"),
        ("command.run", "allowed"),
        ("command.run", "ended"),
        ("program.run", "allowed"),
        ("program.run", "ended"),
        ("file.remove", "allowed"),
        ("file.remove", "allowed"),
    ]
    assert {(r.user_id, r.turn_id, r.detail["by"], r.detail["key_id"]) for r in records} == {
        ("user_1", None, "person", None)
    }


async def test_python_may_keep_its_variables(greenroom, sandboxes):
    session = await greenroom.session()
    await session.exec(python="print(1)")
    await session.exec(python="print(1)", keep=True)
    assert [run.keep for run in sandboxes.runs] == [False, True]


async def test_the_policy_holds_here_too(greenroom, sandboxes):
    session = await greenroom.session()
    assert (await session.exec("nc -l 80")).verdict == "policy"
    with pytest.raises(PolicyRefused):
        await session.write_file(".env", b"x")
    with pytest.raises(InvalidInput):
        await session.exec()
    with pytest.raises(InvalidInput):
        await session.exec("ls", keep=True)
    assert sandboxes.runs == []


async def test_a_session_that_is_not_there(greenroom):
    with pytest.raises(SessionNotFound):
        await SessionHandle("sess_none", greenroom).exec("ls")
