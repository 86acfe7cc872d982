"""Memories in LanceDB: a folder or an object store, one table per embedder.

Vectors of two embedders are never compared: see `lance_rows.table_name`. Each store is the one writer of
its place: remembers that come while a commit runs go into the next one together (`_Pending`), and each
returns when its own is on disk. Every commit leaves a small file; `_compact` merges them now and then.
"""
# LanceDB's annotations name pyarrow, which ships no types; what comes back is narrowed in lance_rows.
# pyright: reportUnknownMemberType=false

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, cast

import lancedb
import structlog
from lancedb.expr import col, lit
from lancedb.index import BTree
from lancedb.table import AsyncTable

from ..core.errors import MemoryUnavailable
from .base import Memory, Recollection
from .embedder import Embedder
from .lance_rows import RECALLED, check_storable, from_row, schema, table_name, to_rows

log = structlog.stdlib.get_logger(__name__)

RECALLED_MAX = 100
COMMIT_MEMORIES = 64
COMMIT_CHARS = 8_000
# How often the number of small files is looked at, and how many are too many.
CHECK_COMMITS = 16
SMALL_FILES = 32
SMALL_FILES_MAX = 256
# A reader holds a version for as long as one recall; an hour also covers a copy of the folder.
KEEP_VERSIONS = timedelta(hours=1)
# Writes always see the newest version; this is how late a recall sees what another process wrote.
REFRESH = timedelta(seconds=5)


@dataclass(slots=True, eq=False)
class _Pending:
    """A memory on its way to the disk. It stays in the queue until a commit with it has succeeded."""

    memory: Memory
    stored: bool = False


class LanceMemories:
    """A `MemoryStore` at `uri`, which is a folder or an address such as `s3://bucket/vectors`.

    Nothing is opened before the first call. One process should write to a place: a second one loses
    and corrupts nothing, but its writes are seen here up to 5 s late. A remember that failed with
    `MemoryUnavailable` may be stored after all; the same id again is safe.
    """

    def __init__(
        self,
        uri: str,
        embedder: Embedder,
        *,
        timeout_s: float = 10.0,
        storage_options: dict[str, str] | None = None,
    ) -> None:
        self._uri = uri
        self._embedder = embedder
        self._timeout_s = timeout_s
        self._storage_options = storage_options
        self._connection: lancedb.AsyncConnection | None = None
        self._table: AsyncTable | None = None
        self._pending: dict[_Pending, None] = {}
        self._unchecked_commits = 0
        self._opening = asyncio.Lock()  # guards making the table: once
        self._writing = asyncio.Lock()  # guards the table's next version: one commit or compaction at a time

    async def remember(self, memory: Memory) -> None:
        check_storable(memory)
        pending = _Pending(memory)
        self._pending[pending] = None
        try:
            async with self._answering("store the memory"), self._writing:
                # Whoever held the lock before may have stored this one too.
                while not pending.stored:
                    await self._commit()
        finally:
            self._pending.pop(pending, None)
        if self._unchecked_commits >= CHECK_COMMITS:
            await self._compact()

    async def recall(self, user_id: str, query: str, *, limit: int = 5) -> tuple[Recollection, ...]:
        """See `MemoryStore`. At most 100, whatever `limit` says, and none when it is below 1."""
        if limit < 1:
            return ()
        async with self._answering("search the memories"):
            table = await self._opened()
            vectors = await self._embedder.embed([query], kind="query")
            search = (
                table.query()
                # Filtered before the search, so no other user's vector is compared. The id goes in as a
                # literal and not as SQL text: there is nothing to escape.
                .where(col("user_id") == lit(user_id))
                .nearest_to(vectors[0])
                .distance_type("cosine")
                .select(RECALLED)
                .limit(min(limit, RECALLED_MAX))
            )
            rows = cast("list[dict[str, Any]]", await search.to_list())
        return tuple(from_row(row) for row in rows)

    async def aclose(self) -> None:
        """Wait for a running commit, then let go of the table. The embedder stays the caller's."""
        async with self._writing:
            if self._table is not None:
                self._table.close()
            if self._connection is not None:
                self._connection.close()
            self._table = self._connection = None

    @asynccontextmanager
    async def _answering(self, purpose: str) -> AsyncGenerator[None]:
        """The deadline of a call, and the border where LanceDB's errors become ours."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise MemoryUnavailable(f"Could not {purpose} within {self._timeout_s:g} s.") from error
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise MemoryUnavailable(f"Could not {purpose}: {reason}") from error

    async def _opened(self) -> AsyncTable:
        async with self._opening:
            if self._table is None:
                self._connection = await lancedb.connect_async(
                    self._uri, read_consistency_interval=REFRESH, storage_options=self._storage_options
                )
                self._table = await self._connection.create_table(
                    table_name(self._embedder), schema=schema(self._embedder.dimensions), exist_ok=True
                )
            return self._table

    async def _commit(self) -> None:
        """Store the head of the queue as one version. Cancelled or failed, it stays queued for the next."""
        table = await self._opened()
        batch = list(_batch(self._pending))
        # The merge compares with what the table holds, not the rows of one batch with each other.
        memories = list({(p.memory.user_id, p.memory.id): p.memory for p in reversed(batch)}.values())
        vectors = await self._embedder.embed([memory.text for memory in memories], kind="passage")
        await table.merge_insert(["user_id", "id"]).when_not_matched_insert_all().execute(to_rows(memories, vectors))
        self._unchecked_commits += 1
        for pending in batch:
            pending.stored = True
            self._pending.pop(pending, None)

    async def _compact(self) -> None:
        """Merge small files, index what is new, drop old versions. A failure costs nothing but speed."""
        try:
            async with self._answering("compact the memories"), self._writing:
                if self._unchecked_commits < CHECK_COMMITS:  # somebody else just did it
                    return
                self._unchecked_commits = 0
                table = await self._opened()
                if not await _too_many_files(table):
                    return
                indexed = {column for index in await table.list_indices() for column in index.columns}
                for column in ("user_id", "id"):
                    if column not in indexed:
                        await table.create_index(column, config=BTree())
                await table.optimize(cleanup_older_than=KEEP_VERSIONS)
        except MemoryUnavailable as error:
            log.warning("memory.compaction_failed", reason=error.message)


def _batch(queue: Iterable[_Pending]) -> Iterator[_Pending]:
    """As many as one commit can embed well within the deadline, and at least one."""
    chars = 0
    for pending in islice(queue, COMMIT_MEMORIES):
        if chars and chars + len(pending.memory.text) > COMMIT_CHARS:
            return
        chars += len(pending.memory.text)
        yield pending


async def _too_many_files(table: AsyncTable) -> bool:
    # LanceDB annotates a dataclass and returns a dict.
    stats = cast("dict[str, Any]", await table.stats())
    # Compaction rewrites what is smaller than a million rows: the larger the table, the rarer.
    allowed = max(SMALL_FILES, min(stats["num_rows"] // 1_000, SMALL_FILES_MAX))
    return stats["fragment_stats"]["num_small_fragments"] >= allowed
