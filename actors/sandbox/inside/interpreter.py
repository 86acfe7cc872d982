"""The interpreter that lasts from call to call, as the agent sees it: a process that it asks, and never believes.

It runs code of tools, so what it says counts for the call that runs in it and for nothing else. Between calls it is
stopped. Its programs come in a file in memory, of which two pipes carry only the length, and the end.
"""

import contextlib
import os
import signal
import struct
import sys

REQUEST = struct.Struct(">16sI")
"""A number that nobody can guess, and the size of the program."""
ANSWER = struct.Struct(">16sB")
"""The same number, and the exit code."""
_DISCARD_BYTES = 64 * 1024
_DISCARD_READS = 64
_FIONREAD = 0x541B


class Interpreter:
    """`output_fd` and `answers_fd` are read here and do not block; neither do requests."""

    # As in the agent, nothing here owns a descriptor: a fork ends with an object of this kind in it.

    def __init__(self, pid: int, output_fd: int, requests_fd: int, answers_fd: int, source_fd: int) -> None:
        self.pid = pid
        self.output_fd = output_fd
        self.answers_fd = answers_fd
        self._requests_fd = requests_fd
        self._source_fd = source_fd
        self._call = b""

    def ask(self, source: bytes) -> None:
        """Wake it and hand it a program. Raises OSError where it has made that impossible."""
        # What it said while it should have stood still belongs to no call.
        for fd in (self.output_fd, self.answers_fd):
            _discard(fd)
        os.ftruncate(self._source_fd, 0)
        written = 0
        while written < len(source):
            written += os.pwrite(self._source_fd, source[written:], written)
        self._call = os.urandom(16)
        os.write(self._requests_fd, REQUEST.pack(self._call, len(source)))
        os.kill(self.pid, signal.SIGCONT)

    def answer(self) -> int:
        """The exit code that it tells of the program. Raises BlockingIOError, and ValueError where it says anything
        but that."""
        data = os.read(self.answers_fd, ANSWER.size + 1)
        if len(data) != ANSWER.size or data[:16] != self._call:
            raise ValueError("not the answer to the call")
        self._call = b""
        return data[16]

    def has_begun(self) -> bool:
        """It has taken its last request out of the pipe. One that is dying can be given a request, and takes none."""
        import fcntl  # noqa: PLC0415  hardly any sandbox comes here, and each start would wait for it

        unread = fcntl.ioctl(self._requests_fd, _FIONREAD, bytes(4))
        return int.from_bytes(unread, sys.byteorder) < REQUEST.size

    def close(self) -> None:
        for fd in (self.output_fd, self._requests_fd, self.answers_fd, self._source_fd):
            os.close(fd)


def _discard(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(_DISCARD_READS):
            if not os.read(fd, _DISCARD_BYTES):
                return
