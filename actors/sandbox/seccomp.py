"""The system call filter of a sandbox, assembled here as classic BPF; no library is needed.

What is refused: mounting, namespaces, kernel keys, BPF, io_uring, tracing, clocks, modules; sockets other
than Unix and Internet ones (AF_VSOCK is not held back by a network namespace); terminal injection; limits
of other processes; and every call that is newer than the table in `syscalls.py`.
"""

import errno
import platform
import struct
from dataclasses import dataclass, field

from .syscalls import ARCHITECTURES, NEWEST, Architecture

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP_EQUAL = 0x15
_JUMP_GREATER = 0x25
_JUMP_GREATER_OR_EQUAL = 0x35
_JUMP_ANY_BIT = 0x45
_RETURN = 0x06

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

# Offsets in struct seccomp_data; the low half of an argument comes first on the little-endian machines here.
_NUMBER, _ARCH, _ARGS = 0, 4, 16
_X32_BIT = 0x40000000
_INIT = 1
_DEVICE_BIT = 0o020000  # in the modes of both kinds of devices, and of no other file
NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
SOCKET_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
TERMINAL_INJECTIONS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
OWNER_COMMANDS = (8, 10, 15)  # of fcntl: F_SETOWN, F_SETSIG, F_SETOWN_EX
OWNER_REQUESTS = (0x8901, 0x8902)  # of ioctl: FIOSETOWN, SIOCSPGRP
PERSONALITIES = (0, 0xFFFFFFFF)  # Linux itself, and the question which one it is


def refusal(number: int) -> int:
    """The filter's answer that makes a call fail with this errno."""
    return _ERRNO | number


@dataclass(slots=True)
class _Program:
    """Instructions; a test that does not hold goes on to the next block, of which each ends with a return."""

    code: list[tuple[int, int, int, int]] = field(default_factory=list[tuple[int, int, int, int]])

    def add(self, operation: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        self.code.append((operation, if_true, if_false, value))

    def answer(self, test: int, value: int, answer: int) -> None:
        """Return `answer` where the accumulator passes `test`."""
        self.add(test, value, 0, 1)
        self.add(_RETURN, answer)

    def only(self, number: int, argument: int, allowed: tuple[int, ...], otherwise: int) -> None:
        """Call `number` passes only where the low word of its argument is one of `allowed`."""
        self._inspect(number, argument, [(_JUMP_EQUAL, value, ALLOW) for value in allowed], otherwise)

    def never(self, number: int, argument: int, test: int, values: tuple[int, ...]) -> None:
        """Call `number` is refused where its argument passes `test` for one of `values`."""
        self._inspect(number, argument, [(test, value, refusal(errno.EPERM)) for value in values], ALLOW)

    def _inspect(self, number: int, argument: int, rules: list[tuple[int, int, int]], otherwise: int) -> None:
        # The kernel reads these arguments as 32-bit numbers: a rule on the upper half could be talked around.
        self.add(_JUMP_EQUAL, number, 0, 2 + 2 * len(rules))
        self.add(_LOAD_WORD, _ARGS + 8 * argument)
        for test, value, answer in rules:
            self.answer(test, value, answer)
        self.add(_RETURN, otherwise)

    def packed(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self.code)


def assemble(architecture: Architecture, *, lenient: bool = False) -> bytes:
    """The filter as an array of `struct sock_filter`.

    Linux keeps signals from inside away from process 1, and device files to itself. Where a `lenient` kernel does not,
    the filter does: nothing is sent to that number, and no file is made to send signals to anybody.
    """
    call = architecture.numbers
    program = _Program()
    program.add(_LOAD_WORD, _ARCH)
    program.add(_JUMP_EQUAL, architecture.audit, 1, 0)
    program.add(_RETURN, KILL_PROCESS)
    program.add(_LOAD_WORD, _NUMBER)
    program.answer(_JUMP_GREATER_OR_EQUAL, _X32_BIT, refusal(errno.EPERM))
    program.answer(_JUMP_GREATER, NEWEST, refusal(errno.ENOSYS))
    # With clone3 the flags lie behind a pointer; without it the C library falls back to clone.
    program.answer(_JUMP_EQUAL, call["clone3"], refusal(errno.ENOSYS))
    for name in architecture.refused:
        program.answer(_JUMP_EQUAL, call[name], refusal(errno.EPERM))
    for name in ("socket", "socketpair"):
        program.only(call[name], 0, SOCKET_FAMILIES, refusal(errno.EAFNOSUPPORT))
    program.only(call["prlimit64"], 0, (0,), refusal(errno.EPERM))
    program.only(call["personality"], 0, PERSONALITIES, refusal(errno.EPERM))
    program.never(call["clone"], 0, _JUMP_ANY_BIT, (NAMESPACE_FLAGS,))
    program.never(call["ioctl"], 1, _JUMP_EQUAL, TERMINAL_INJECTIONS + (OWNER_REQUESTS if lenient else ()))
    if lenient:
        for number in architecture.signals.values():
            program.never(number, 0, _JUMP_EQUAL, (_INIT,))
        program.never(architecture.fcntl, 1, _JUMP_EQUAL, OWNER_COMMANDS)
        for number, mode in architecture.mknods:
            program.never(number, mode, _JUMP_ANY_BIT, (_DEVICE_BIT,))
    program.add(_RETURN, ALLOW)
    return program.packed()


def filter_for(machine: str | None = None, *, lenient: bool = False) -> bytes | None:
    """The filter for a machine as `platform.machine()` names it, this one by default; None where it is unknown."""
    architecture = ARCHITECTURES.get(machine or platform.machine())
    return assemble(architecture, lenient=lenient) if architecture else None
