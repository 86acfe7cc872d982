"""Room in the writable folders. Read on both sides of the wall: the host looks from outside where it may."""

import os

FOLDERS = ("workspace", "tmp", "dev/shm")

Left = tuple[int, int, int]
"""Of one file system: free bytes, inodes in all, free inodes."""


def left_in(folder: str, root_fd: int) -> "Left | None":
    """What is left in a folder below the root that `root_fd` is open on; None where it cannot be seen."""
    try:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root_fd)
    except OSError:
        return None
    try:
        left = os.fstatvfs(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return left.f_bavail * left.f_frsize, left.f_files, left.f_favail


def left() -> "list[Left]":
    """What is left in each, as a process inside sees it."""
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [room for room in (left_in(folder, root_fd) for folder in FOLDERS) if room]
    finally:
        os.close(root_fd)
