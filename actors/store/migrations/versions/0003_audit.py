"""The audit: rows that the database itself lets nobody change or delete."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("session_id", sa.String(64)),
        sa.Column("turn_id", sa.String(64)),
        sa.Column("tool_call_id", sa.String(200)),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("decision", sa.String(20), nullable=False),
        sa.Column("rule", sa.String(40)),
        sa.Column("detail", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_by_user", "audit", ["user_id", "at", "id"])
    op.create_index("audit_by_session", "audit", ["session_id", "at", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit"
                " BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION audit_unchanged() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'audit rows are never changed'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_unchanged()"
        )
