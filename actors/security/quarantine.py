"""A folder of this machine, outside every sandbox, for what was not let into one."""

import asyncio
from pathlib import Path

import structlog

log = structlog.stdlib.get_logger(__name__)


class Quarantine:
    """Keeps the contents of refused files for the operator. Nothing here is ever read back by a session.

    It holds `max_bytes` at most: what would not fit is not kept, and neither is anything when the disk says no. A
    refusal does not depend on it.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    async def keep(self, name: str, data: bytes) -> str | None:
        """Where `data` is now, None when it was not kept. `name` is one that nobody outside chose."""
        try:
            return await asyncio.to_thread(self._keep, name, data)
        except OSError as error:
            log.warning("quarantine.failed", reason=str(error))
            return None

    def _keep(self, name: str, data: bytes) -> str | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = sum(entry.stat().st_size for entry in self._folder.iterdir())
        if held + len(data) > self._max_bytes:
            log.warning("quarantine.full", held_bytes=held, max_bytes=self._max_bytes)
            return None
        file = self._folder / name
        file.touch(mode=0o600, exist_ok=False)
        file.write_bytes(data)
        return str(file)
