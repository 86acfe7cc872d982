"""Audit rows of connections: whose the session is, is known to the database and to nobody who asks."""

from typing import Any

import pytest

from actors.agent.connections import ConnectionAudit
from actors.core.errors import SessionNotFound
from actors.sandbox.egress_base import Attempt
from actors.security.audit import SqlAudit
from actors.security.cipher import ClearText
from actors.testing import FakeClock, sequential_ids


@pytest.fixture
def audit(process: Any) -> SqlAudit:
    return SqlAudit(process.database, ClearText())


@pytest.fixture
def connections(process: Any, audit: SqlAudit) -> ConnectionAudit:
    return ConnectionAudit(process.database, audit, clock=FakeClock(), new_id=sequential_ids())


async def test_rows_tell_where_to_and_why_not(connections: ConnectionAudit, audit: SqlAudit, writer: Any) -> None:
    await writer("sess_1", user_id="user_7").create()
    await connections.record("sess_1", Attempt("pypi.org", 443, "allowed", "151.101.0.223"))
    await connections.record("sess_1", Attempt("evil.org", 80, "refused", rule="domain", reason="not allowed", count=3))
    allowed, refused = await audit.read("sess_1", limit=10)
    assert (allowed.user_id, allowed.action, allowed.decision, allowed.rule) == (
        "user_7", "network.connect", "allowed", None,
    )  # fmt: skip
    assert allowed.detail == {
        "host": "pypi.org", "port": 443, "address": "151.101.0.223", "reason": None, "count": 1,
    }  # fmt: skip
    assert (refused.decision, refused.rule, refused.detail["reason"]) == ("refused", "domain", "not allowed")
    assert refused.detail["count"] == 3


async def test_a_session_that_is_not_there_connects_to_nothing(connections: ConnectionAudit, audit: SqlAudit) -> None:
    with pytest.raises(SessionNotFound):
        await connections.record("sess_none", Attempt("pypi.org", 443, "allowed"))
    assert await audit.read("sess_none", limit=10) == ()
