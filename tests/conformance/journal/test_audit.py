"""The audit on every database: rows come back as they were written, and nobody changes one."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from actors.core.errors import StoreUnavailable
from actors.security.audit import AUDIT, AuditRecord, SqlAudit
from actors.security.cipher import ClearText
from actors.store.database import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(number: int, **changes: Any) -> AuditRecord:
    made: dict[str, Any] = {
        "id": f"aud_{number}",
        "at": NOW + timedelta(seconds=number),
        "user_id": "user_1",
        "action": "command.run",
        "decision": "refused",
        "session_id": "sess_1",
        "turn_id": "turn_1",
        "tool_call_id": "call_1",
        "rule": "allowed_commands",
        "detail": {"source": "rm Grüße", "programs": ["rm"]},
    }
    return AuditRecord(**{**made, **changes})


@pytest.fixture
async def opened(server: Any) -> AsyncIterator[Database]:
    made = Database(server.url, pool=2, connect_s=2, statement_s=2)
    yield made
    made.close()


async def test_records_come_back_as_they_were_written(opened: Database) -> None:
    audit = SqlAudit(opened, ClearText())
    written = [record(2), record(1), record(3, turn_id=None, tool_call_id=None, rule=None, detail={})]
    for one in [*written, record(4, session_id="sess_2"), record(5, session_id=None)]:
        await audit.write(one)
    assert await audit.read("sess_1", limit=10) == (written[1], written[0], written[2])
    assert await audit.read("sess_1", limit=1) == (written[1],)


async def test_a_name_of_a_call_may_be_as_long_as_models_like(opened: Database) -> None:
    audit = SqlAudit(opened, ClearText())
    await audit.write(record(1, tool_call_id="c" * 1000))
    assert (await audit.read("sess_1", limit=1))[0].tool_call_id == "c" * 200


@pytest.mark.parametrize("change", [sa.update(AUDIT).values(decision="allowed"), sa.delete(AUDIT)])
async def test_the_database_lets_nobody_change_a_row(opened: Database, change: Any) -> None:
    audit = SqlAudit(opened, ClearText())
    await audit.write(record(1))
    with pytest.raises(DBAPIError, match="never changed"):
        await opened.write(lambda connection: connection.execute(change))
    assert await audit.read("sess_1", limit=10) == (record(1),)


async def test_an_audit_out_of_reach_says_so(server: Any, opened: Database) -> None:
    audit = SqlAudit(opened, ClearText())
    server.stop()
    with pytest.raises(StoreUnavailable):
        await audit.write(record(1))
