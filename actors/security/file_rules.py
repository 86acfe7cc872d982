"""Which files of a sandbox may be read and written from outside, by where they really are.

These rules hold where a file crosses the sandbox's border. What happens to files inside is the sandbox's business.
"""

import posixpath
from fnmatch import fnmatchcase

from ..sandbox.inside.files import WORKSPACE
from .policy import FilePolicy, Refusal


def place(path: str) -> str:
    """`path`, which may be relative to the workspace, as an absolute one without dots."""
    return posixpath.normpath(posixpath.join(WORKSPACE, path))


def path_refusal(path: str, policy: FilePolicy) -> Refusal | None:
    """Why nothing may be done with what is at `path`, which is as `place` gives it. No link is followed here."""
    if not any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in policy.allowed_directories):
        folders = ", ".join(policy.allowed_directories) or "none"
        return Refusal("allowed_directories", f"{path} is not in a directory that is allowed ({folders})")
    for pattern in policy.blocked_files:
        if _matches(path, pattern):
            return Refusal("blocked_files", f"{path} is a blocked file ({pattern})")
    return None


def size_refusal(path: str, size_bytes: int, policy: FilePolicy) -> Refusal | None:
    """Why a file of that size may not cross the border."""
    if size_bytes <= policy.max_file_bytes:
        return None
    reason = f"{path} has {size_bytes:,} bytes, a file may have {policy.max_file_bytes:,}"
    return Refusal("max_file_size", reason)


def _matches(path: str, pattern: str) -> bool:
    """A pattern with a slash is for the whole path, any other for each name in it; capitals count as small letters."""
    wanted = pattern.casefold()
    parts = [path] if "/" in pattern else path.split("/")
    return any(fnmatchcase(part.casefold(), wanted) for part in parts)
