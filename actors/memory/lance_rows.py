"""How memories lie in LanceDB: the table's name, its Arrow schema, rows and back."""
# pyarrow ships no types, so what it makes leaves this file as Any.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ..core.errors import InvalidInput
from .base import Memory, Recollection
from .embedder import Embedder, Vectors

TEXTS = ("id", "user_id", "text", "session_id", "turn_id")
RECALLED = [*TEXTS, "created_at", "_distance"]


def table_name(embedder: Embedder) -> str:
    """The table that holds this embedder's vectors. Another name or another size is another table."""
    slug = re.sub(r"[^A-Za-z0-9.-]", "_", embedder.name)
    # LanceDB takes no other characters in a name, and two embedders may have one slug.
    suffix = "" if slug == embedder.name else "-" + hashlib.sha256(embedder.name.encode()).hexdigest()[:8]
    return f"memories-{slug}{suffix}-{embedder.dimensions}"


def schema(dimensions: int) -> Any:
    """The table's `pyarrow.Schema`."""
    return pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in TEXTS),
            pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False),
        ]
    )


def check_storable(memory: Memory) -> None:
    """Raises `InvalidInput` for what Arrow cannot hold, before it can spoil the commit of others."""
    for name in TEXTS:
        try:
            getattr(memory, name).encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"The memory's {name} holds half a surrogate pair; send whole characters.") from error


def to_rows(memories: list[Memory], vectors: Vectors) -> Any:
    """A `pyarrow.Table` of the memories and, in the same order, their vectors."""
    dimensions = vectors.shape[1]
    columns: dict[str, Any] = {name: [getattr(memory, name) for memory in memories] for name in TEXTS}
    columns["created_at"] = [memory.created_at for memory in memories]
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimensions)
    return pa.Table.from_pydict(columns, schema=schema(dimensions))


def from_row(row: dict[str, Any]) -> Recollection:
    """What a search found: the columns `RECALLED`."""
    created_at: datetime = row["created_at"]
    memory = Memory(**{name: row[name] for name in TEXTS}, created_at=created_at.astimezone(UTC))
    return Recollection(memory, min(1.0, 1.0 - float(row["_distance"])))
