"""How much room is left in a sandbox's writable folders, asked of the kernel from outside."""

import os
import threading
from collections.abc import Iterable

from .inside.room import FOLDERS, Left, left_in

LEAST_BYTES = 64 * 1024
"""A folder with less room than this is full: a program that failed for want of room may have left the last of it."""


def any_is_full(rooms: Iterable[Left]) -> bool:
    """Whether one of these takes no more."""
    # A file system that bounds its inodes by nothing says that it has none.
    return any(bytes_ < LEAST_BYTES or (inodes > 0 and not free_inodes) for bytes_, inodes, free_inodes in rooms)


class Room:
    """The folders of one sandbox, by a descriptor of its root that was taken before any tool code ran.

    The root cannot be written inside, so no link can lead from a folder's name to a place elsewhere.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd: int | None = root_fd
        self._lock = threading.Lock()  # guards `_root_fd`: its number may be another file's as soon as it is closed

    @classmethod
    def of(cls, pid: int) -> "Room | None":
        """That of a process, as this machine numbers them; None where we may not look into it."""
        try:
            return cls(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            return None

    def is_full(self) -> bool:
        with self._lock:
            if self._root_fd is None:
                return False
            return any_is_full([room for folder in FOLDERS if (room := left_in(folder, self._root_fd))])

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._root_fd is not None:
                os.close(self._root_fd)
                self._root_fd = None
