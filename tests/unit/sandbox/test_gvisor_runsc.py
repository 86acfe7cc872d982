"""Which platform is taken, that it is tried once, and what is said where none works."""

import platform

import pytest

from actors.sandbox import gvisor_runsc
from actors.sandbox.base import ExecResult
from actors.sandbox.gvisor import _findings_of_kernel
from actors.sandbox.gvisor_runsc import PLATFORMS, choose_platform
from actors.sandbox.rootfs import CannotBuild


class Trial:
    """Ends with this code, None for never, after these words."""

    def __init__(self, code, words=""):
        self.code = code
        self.words = words
        self.ended = False

    def wait(self, _timeout_s):
        return self.code

    def message(self):
        return self.words

    def end(self):
        self.ended = True


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """Choose among trials by platform; which were started."""
    monkeypatch.setattr(gvisor_runsc, "_chosen", {})
    runsc = tmp_path / "runsc"
    runsc.touch()

    def run(trials):
        started = []

        def start(platform):
            started.append(platform)
            return trials[platform]

        try:
            return choose_platform(runsc, start), started
        finally:
            assert all(trials[platform].ended for platform in started)

    return run


def test_the_first_that_works_is_taken_and_not_tried_again(choose):
    trials = {"systrap": Trial(128, "unknown platform: systrap"), "kvm": Trial(None), "ptrace": Trial(0)}

    assert choose(trials) == ("ptrace", list(PLATFORMS))
    assert choose(trials) == ("ptrace", [])


@pytest.mark.parametrize(
    ("words", "what", "fix"),
    [
        ("flag provided but not defined: -rootless\nUsage: runsc", "a newer runsc", "apt-get install runsc"),
        ("fork/exec /proc/self/exe: operation not permitted", "user namespaces", "max_user_namespaces"),
        ("launcher: [Errno 1] no", "the right to become another user", "CAP_SETUID"),
        ("starting: no such thing", "a platform on which gVisor works here", "kvm: no end within 10 s; ptrace: start"),
    ],
)
def test_what_is_missing_where_none_works(choose, words, what, fix):
    trials = {"systrap": Trial(128, "unknown platform: systrap"), "kvm": Trial(None), "ptrace": Trial(1, words)}
    with pytest.raises(CannotBuild) as refused:
        choose(trials)

    assert refused.value.missing.what == what
    assert fix in refused.value.missing.fix


def test_what_failed_is_tried_again(choose):
    with pytest.raises(CannotBuild):
        choose(dict.fromkeys(PLATFORMS, Trial(3)))
    assert choose({"systrap": Trial(0)}) == ("systrap", ["systrap"])


@pytest.mark.parametrize(("output", "refused"), [("0.0.1-other\nls", False), ("{host}\n/usr\n", True), ("", True)])
def test_a_sandbox_on_the_hosts_own_kernel_is_none(output, refused):

    result = ExecResult("ok", 0, output.replace("{host}", platform.release()))
    assert bool(_findings_of_kernel(result)) == refused
