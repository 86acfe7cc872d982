"""The users of this machine that sandboxes run as where we may choose them."""

import secrets

FIRST_UID = 200_000
UID_COUNT = 65_536
"""None of them owns a file. The kernel counts processes, queues and watches by user: so each sandbox has its own."""


class HostUsers:
    """A user for each sandbox, in turn from a place that chance picks: another process picks another one."""

    def __init__(self) -> None:
        self._next = secrets.randbelow(UID_COUNT)

    def take(self) -> int:
        self._next = (self._next + 1) % UID_COUNT
        return FIRST_UID + self._next
