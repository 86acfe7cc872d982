"""The filter, run by a small interpreter of classic BPF."""

import errno
import struct

import pytest

from actors.sandbox.seccomp import ALLOW, KILL_PROCESS, filter_for, refusal
from actors.sandbox.syscalls import ARCHITECTURES, NEWEST

EPERM, ENOSYS, NO_FAMILY = refusal(errno.EPERM), refusal(errno.ENOSYS), refusal(errno.EAFNOSUPPORT)


@pytest.fixture(params=sorted(ARCHITECTURES))
def machine(request):
    return request.param


@pytest.fixture
def ask(machine):
    return asking(machine, filter_for(machine))


def asking(machine, code):
    """What a filter answers to a call of a machine, as the kernel would run it."""
    audit = ARCHITECTURES[machine].audit

    def run(call, *arguments, audit=audit):
        number = ARCHITECTURES[machine].numbers[call] if isinstance(call, str) else call
        data = struct.pack("<IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
        accumulator = position = 0
        tests = {
            0x15: lambda a, k: a == k,
            0x25: lambda a, k: a > k,
            0x35: lambda a, k: a >= k,
            0x45: lambda a, k: a & k,
        }
        while True:
            operation, if_true, if_false, value = struct.unpack_from("<HBBI", code, position * 8)
            position += 1
            if operation == 0x06:
                return value
            if operation == 0x20:
                [accumulator] = struct.unpack_from("<I", data, value)
            else:
                position += if_true if tests[operation](accumulator, value) else if_false

    return run


def test_every_refused_call_is_refused(machine, ask):
    for name in ARCHITECTURES[machine].refused:
        assert ask(name) == EPERM, name


def test_ordinary_calls_pass(machine, ask):
    ordinary = {
        "x86_64": {"read": 0, "write": 1, "mmap": 9, "fork": 57, "execve": 59, "kill": 62, "openat": 257, "pipe2": 293},
        "aarch64": {"openat": 56, "read": 63, "write": 64, "kill": 129, "execve": 221, "mmap": 222, "pipe2": 59},
    }[machine]
    for name, number in ordinary.items():
        assert ask(number) == ALLOW, name
    assert ask(434) == ask(436) == ask(437) == ALLOW  # pidfd_open, close_range, openat2


@pytest.mark.parametrize(("family", "answer"), [(1, ALLOW), (2, ALLOW), (10, ALLOW), (16, NO_FAMILY), (40, NO_FAMILY)])
def test_sockets_by_family(ask, family, answer):
    assert ask("socket", family) == answer
    assert ask("socketpair", family) == answer
    # The kernel reads 32 bits: what stands in the others must not change the answer.
    assert ask("socket", family | 1 << 32) == answer


def test_clone_without_namespaces(ask):
    assert ask("clone", 17) == ALLOW  # SIGCHLD: fork
    assert ask("clone", 0x3D0F00) == ALLOW  # a thread
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask("clone", flag | 17) == EPERM
    assert ask("clone3") == ENOSYS


def test_terminal_injection(ask):
    assert ask("ioctl", 1, 0x5401) == ALLOW  # TCGETS
    for request in (0x5412, 0x541C):
        assert ask("ioctl", 1, request) == EPERM
        assert ask("ioctl", 1, request | 1 << 40) == EPERM


def test_limits_of_others(ask):
    assert ask("prlimit64", 0) == ALLOW
    assert ask("prlimit64", 1) == EPERM


def test_personality_may_be_asked_but_not_changed(ask):
    assert ask("personality", 0xFFFFFFFF) == ask("personality", 0) == ALLOW
    assert ask("personality", 0x0040000) == EPERM


def test_unknown_calls_and_machines(ask):
    assert ask(NEWEST + 1) == ENOSYS
    assert ask(0x3FFFFFFF) == ENOSYS
    for x32 in (0x40000000, 0x40000000 | 165, 0xFFFFFFFF):
        assert ask(x32) == EPERM
    assert ask(0, audit=0x40000003) == KILL_PROCESS  # a 32-bit program on x86_64
    assert filter_for("riscv64") is None


def test_every_jump_lands_inside(machine):
    code = filter_for(machine)
    count = len(code) // 8
    assert count < 4096  # the kernel's limit
    for index in range(count):
        operation, if_true, if_false, _ = struct.unpack_from("<HBBI", code, index * 8)
        if operation & 0x07 == 0x05:
            assert index + 1 + max(if_true, if_false) < count
    assert struct.unpack_from("<H", code, (count - 1) * 8)[0] == 0x06


def test_a_lenient_kernel_gets_no_signal_for_process_1_and_makes_no_device(machine, ask):
    lenient = asking(machine, filter_for(machine, lenient=True))
    architecture = ARCHITECTURES[machine]
    for number in architecture.signals.values():
        assert lenient(number, 1, 9) == lenient(number, 1 | 1 << 32, 9) == EPERM  # the kernel reads 32 bits
        for target in (2, 100, 0, 0xFFFFFFFF):
            assert lenient(number, target, 9) == ALLOW
        assert ask(number, 1, 9) == ALLOW  # Linux sees to it
    for command in (8, 10, 15):
        assert lenient(architecture.fcntl, 3, command) == EPERM
    assert lenient(architecture.fcntl, 3, 3) == ALLOW
    for request in (0x8901, 0x8902, 0x5412):
        assert lenient("ioctl", 3, request) == EPERM
    assert lenient("ioctl", 3, 0x5401) == ALLOW
    for number, place in architecture.mknods:
        for kind, answer in ((0o020000, EPERM), (0o060000, EPERM), (0o010000, ALLOW), (0o100000, ALLOW)):
            assert lenient(number, *[0] * place, kind | 0o600) == answer
