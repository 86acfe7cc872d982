"""An audit for tests: a list."""

from ..core.errors import StoreUnavailable
from ..security.audit import AuditRecord


class ListAudit:
    """`Audit` in memory. `records` is what was written; with `unavailable` nothing can be."""

    def __init__(self, *, unavailable: bool = False) -> None:
        self.records: list[AuditRecord] = []
        self.unavailable = unavailable

    async def write(self, record: AuditRecord) -> None:
        if self.unavailable:
            raise StoreUnavailable("The audit cannot be written.")
        self.records.append(record)
