"""The profile that docker is given: what it lets through, and that it lets through no more than bubblewrap's filter."""

import errno
import json
import random

import pytest

from actors.sandbox.docker_seccomp import ALLOWED, profile_for
from actors.sandbox.syscalls import ARCHITECTURES

CLONE_NEWUSER = 0x10000000


@pytest.fixture(params=sorted(ARCHITECTURES))
def profile(request):
    return json.loads(profile_for(request.param))


def holds(rule, arguments):
    """Whether a rule's conditions hold for a call with these arguments, as libseccomp compares them."""
    for condition in rule["args"]:
        value = arguments[condition["index"]]
        if condition["op"] == "SCMP_CMP_MASKED_EQ":
            if value & condition["value"] != condition["valueTwo"]:
                return False
        elif value != condition["value"]:
            return False
    return True


def allows(profile, name, *arguments):
    """Whether any rule lets the call through."""
    rules = [rule for rule in profile["syscalls"] if name in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"]
    return any(holds(rule, arguments) for rule in rules)


def test_what_is_not_named_is_refused(profile):
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert len(profile["architectures"]) == 1  # no call by the numbers of another one


def test_no_call_that_bubblewrap_refuses_is_allowed():
    refused = {name for architecture in ARCHITECTURES.values() for name in architecture.numbers}
    assert refused.isdisjoint(ALLOWED)
    assert len(ALLOWED) == len(set(ALLOWED)) > 250


def test_other_calls_are_allowed_by_what_they_ask_for(profile):
    assert allows(profile, "socket", 1)
    assert not allows(profile, "socket", 40)
    assert not allows(profile, "socket", 16)
    assert allows(profile, "prlimit64", 0)
    assert not allows(profile, "prlimit64", 1)
    assert allows(profile, "personality", 0)
    assert not allows(profile, "personality", 0x0040000)
    assert allows(profile, "clone", 0x00010F00)
    assert not allows(profile, "clone", CLONE_NEWUSER | 17)


def test_every_command_to_a_terminal_but_those_that_type_into_it(profile):
    for forbidden in (0x5412, 0x541C):
        assert not allows(profile, "ioctl", 0, forbidden)
        assert not allows(profile, "ioctl", 0, forbidden | 1 << 32)  # the kernel reads 32 bits
        for bit in range(32):
            assert allows(profile, "ioctl", 0, forbidden ^ 1 << bit)
    random.seed(1)
    for _ in range(1000):
        command = random.getrandbits(32)
        assert allows(profile, "ioctl", 0, command) == (command not in (0x5412, 0x541C))


def test_clone3_is_not_implemented(profile):
    [rule] = [rule for rule in profile["syscalls"] if "clone3" in rule["names"]]
    assert (rule["action"], rule["errnoRet"]) == ("SCMP_ACT_ERRNO", errno.ENOSYS)


def test_an_unknown_machine_has_no_profile():
    assert profile_for("riscv64") is None
