"""What the canary's findings and bubblewrap's words are taken to mean."""

import json

import pytest

from actors.sandbox.canary import CHECKS, diagnose, findings, program


def test_all_is_well():
    assert findings(json.dumps(dict.fromkeys(CHECKS, True))) == ()


@pytest.mark.parametrize("value", [False, None, 1, "true", "missing"])
def test_anything_but_true_is_a_finding(value):
    report = dict.fromkeys(CHECKS, True)
    if value == "missing":
        del report["no network"]
    else:
        report["no network"] = value
    [gap] = findings(json.dumps(report))
    assert gap.what == "no network"
    assert gap.fix


@pytest.mark.parametrize("output", ["", "Traceback …", "[]", "true", "{"])
def test_report_that_is_none_is_a_finding(output):
    [gap] = findings(output)
    assert "report" in gap.what


def test_the_program_reports_every_check():
    source = program(["/some/path"])
    compile(source, "canary", "exec")
    assert all(f'"{check}":' in source for check in CHECKS)
    assert "/some/path" in source


@pytest.mark.parametrize(
    ("message", "what", "fix"),
    [
        ("bwrap: No permissions to creating new namespace, likely because …", "user namespaces", "seccomp=unconfined"),
        ("bwrap: setting up uid map: Permission denied", "user namespaces", "apparmor_restrict_unprivileged_userns"),
        ("bwrap: Can't mount proc on /newroot/proc", "a /proc of its own", "systempaths=unconfined"),
        ("bwrap: Unknown option --disable-userns", "bubblewrap 0.8 or later", "pip install"),
        ("launcher: [Errno 1] Operation not permitted", "the right to become another user", "CAP_SETUID"),
        ("launcher: [Errno 22] Invalid argument", "a user to become", "ordinary user"),
        ("something new", "a sandbox that starts", "something new"),
        ("", "a sandbox that starts", "without a word"),
    ],
)
def test_diagnosis(message, what, fix):
    gap = diagnose(message)
    assert gap.what == what
    assert fix in gap.fix
