"""The book of attempts is of everything that is paid: models, tools, sandboxes, embeddings."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("kind", sa.String(20), nullable=False, server_default="model"))
    op.add_column("attempts", sa.Column("name", sa.String(200)))
    op.add_column("attempts", sa.Column("seconds", sa.Float))
