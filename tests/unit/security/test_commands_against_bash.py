"""Whatever is generated: of a line that the policy lets through, bash starts no program that is not allowed.

Bash is asked, not a second reading of ours: it runs the line with a PATH on which every name is a recorder.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from actors.security.commands import judge
from actors.security.policy import CommandPolicy

INSIDE = ("good", "fine")
OUTSIDE = ("bad", "evil")
REAL = ("env", "xargs", "timeout", "bash", "find", "nice", "cat")
POLICY = CommandPolicy(frozenset({*INSIDE, *REAL, "time", "echo", "printf", "test"}))
NOBODY = 65534

EXAMPLES = 500


@dataclass
class Stage:
    """A folder of programs that record their names, and one to work in, for a user who may write nowhere else."""

    root: Path

    def __post_init__(self) -> None:
        self.programs, self.work, self.records = (self.root / name for name in ("bin", "work", "records"))
        for folder in (self.programs, self.work):
            folder.mkdir()
        for name in (*INSIDE, *OUTSIDE, "x", "a", "f", "-l"):
            recorder = self.programs / name
            recorder.write_text(f"#!/bin/sh\necho {name} >> {self.records}\n")
            recorder.chmod(0o755)
        for name in REAL:
            (self.programs / name).symlink_to(shutil.which(name) or "")
        self.root.chmod(0o755)
        self.records.touch()
        self.records.chmod(0o666)
        self.work.chmod(0o777)

    def ran(self, command: str) -> list[str]:
        """The names of what bash started for this line, all that it left in the background included."""
        self.records.write_text("")
        shutil.rmtree(self.work)
        self.work.mkdir()
        self.work.chmod(0o777)
        (self.work / "f").write_text("bad\nevil a\n")
        (self.work / "f").chmod(0o666)
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run(
            ["/usr/bin/timeout", "-s", "KILL", "5", "/bin/bash", "-c", 'exec -a sh /bin/bash -c "$1"', "-", command],
            env={"PATH": str(self.programs), "LC_ALL": "C.UTF-8"},
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
            **user,
        )
        return self.records.read_text().split()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    # Not pytest's own temporary folder, which other users cannot enter.
    root = Path(tempfile.mkdtemp(prefix="greenroom-shell-", dir="/var/tmp"))
    yield Stage(root)
    shutil.rmtree(root)


NAMES = st.sampled_from(
    [
        *INSIDE * 6,
        *OUTSIDE,
        "'good'",
        '"fine"',
        "g''ood",
        "go\\od",
        "/usr/bin/bad",
        "b'a'd",
        "\\bad",
        "$v",
        "f",
        "./bad",
    ]
)
VALUES = st.sampled_from(
    ["x", "a", "-l", "'a b'", '"a b"', "$v", '"$v"', "${v}", "f", "*", "{a,b}", "bad", "$'a'", "\\$x"]
)


def _commands(lines: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quoted = lines.map(lambda line: "'" + line.replace("'", "'\\''") + "'")
    argument = st.one_of(
        VALUES,
        VALUES,
        lines.map(lambda line: f"$({line})"),
        lines.map(lambda line: f'"$({line})"'),
        lines.map(lambda line: f"`{line}`" if "`" not in line else "x"),
        lines.map(lambda line: f"<({line})"),
        lines.map(lambda line: f"'{line}'"),
        lines.map(lambda line: f"${{v:-$({line})}}"),
    )
    prefix = st.sampled_from(
        ["", "", "", "A=b ", "v=bad ", "v='a[$(bad)]' ", "PATH=. ", "! ", "> f ", "2>&1 ", "time "]
    )
    suffix = st.sampled_from(
        ["", "", "", " > f", " < f", " 2>&1", " >> f x", " &> f", " <<< $v", " # bad", " #'", "\\\n"]
    )
    plain = st.builds(
        lambda before, name, arguments, after: f"{before}{' '.join([name, *arguments])}{after}",
        prefix,
        NAMES,
        st.lists(argument, max_size=2),
        suffix,
    )
    wrapped = st.one_of(
        st.builds(
            "{} {}".format, st.sampled_from(["env", "env -i A=b", "exec", "command", "eval", "timeout 3"]), lines
        ),
        st.builds("{} {}".format, st.sampled_from(["echo good | xargs", "cat f | xargs -n1", "nice -n 1"]), plain),
        st.builds("find . -name f -exec {} {}".format, plain, st.sampled_from(["\\;", "{} +", "';'"])),
        st.builds("{} {}".format, st.sampled_from(["eval", "bash -c", "bash -ec"]), quoted),
        st.builds("cat <<{0}\n{1}\n{2}\n{3}".format, *[st.sampled_from(["E", "'E'"])], lines, st.just("E"), lines),
        st.builds("cat <<{0} | {1}\n{2}\n{3}".format, st.sampled_from(["E", '"E"', "-E"]), plain, lines, st.just("E")),
        st.builds("printf '%s' {}".format, argument),
        st.builds("[ {} = {} ]".format, argument, argument),
        st.builds("test {} {}".format, st.sampled_from(["-v", "-n", "-f"]), argument),
        st.builds("[[ {} {} 1 ]]".format, argument, st.sampled_from(["-eq", "=="])),
        st.builds("v={}; echo $((v)) ${{v}} ${{!v}}".format, quoted),
    )
    return st.one_of(plain, plain, wrapped)


def _lines(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    commands = _commands(inner)
    joined = st.builds(
        "{}{}{}".format,
        inner,
        st.sampled_from(["; ", " && ", " || ", " | ", " |& ", " & ", "\n", ";", " #\n"]),
        commands,
    )
    compound = st.one_of(
        st.builds("({})".format, inner),
        st.builds("{{ {}; }}".format, inner),
        st.builds("if {}; then {}; else {}; fi".format, inner, inner, inner),
        st.builds("for v in a {}; do {}; done".format, VALUES, inner),
        st.builds("until good; do {}; done".format, inner),
        st.builds("case {} in x|{}) {};; *) {};; esac".format, VALUES, VALUES, inner, inner),
        st.builds("{}() {{ {}; }}{}{}".format, st.sampled_from(["h", *OUTSIDE]), inner, st.sampled_from("&;\n"), inner),
        st.builds("{}; {}() {{ {}; }}; {}".format, inner, st.sampled_from(["h", *OUTSIDE]), inner, inner),
    )
    return st.one_of(commands, commands, joined, compound)


LINES = st.recursive(_commands(st.sampled_from([*INSIDE, *OUTSIDE, "good x"])), _lines, max_leaves=4)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 2),
        st.sampled_from(
            [*"'\"\\`$(){};&|<>\n #!*[]=~\t-", "", "bad", "$(bad)", "`bad`", ";bad", "\nbad\n", "\\\n", "<<E", "E\n"]
        ),
    ),
    max_size=3,
)


@st.composite
def _edited(draw: st.DrawFn) -> str:
    """A line of shell, most of the time with some characters lost and others put in: where readings differ."""
    line = draw(LINES)
    for at, lost, put in draw(EDITS):
        position = at % (len(line) + 1)
        line = line[:position] + put + line[position + lost :]
    return line


def _check(stage: Stage, command: str) -> bool:
    judgement = judge(command, POLICY)
    if judgement.refusal:
        return False
    ran = stage.ran(command)
    assert not set(ran) - POLICY.allowed, (command, ran)
    assert set(ran) <= set(judgement.programs), (command, ran, judgement.programs)
    return True


@pytest.mark.timeout(600)  # hundreds of shells, on a machine that may be busy
def test_nothing_outside_the_list_is_ever_started(stage: Stage) -> None:
    allowed: list[str] = []

    @settings(
        deadline=None,
        suppress_health_check=list(HealthCheck),
        max_examples=max(EXAMPLES, settings.default.max_examples),
    )
    @given(_edited())
    def play(command: str) -> None:
        is_allowed = _check(stage, command)
        event("allowed" if is_allowed else "refused")
        if is_allowed:
            allowed.append(command)

    play()
    assert len(allowed) >= 20, "the property says nothing where nearly all is refused"


@pytest.mark.parametrize("command", ["bad", "good; evil", "echo $(bad)", "find . -name f -exec bad {} +", "eval bad"])
def test_bash_would_start_what_is_refused(stage: Stage, command: str) -> None:
    """The recorders see what they should: otherwise the property above would hold of anything."""
    assert judge(command, POLICY).refusal is not None
    assert set(stage.ran(command)) & set(OUTSIDE)


@pytest.mark.parametrize(
    "command", ["good", "g''ood; fine", "echo $(fine)", "find . -name f -exec good {} +", "env good"]
)
def test_bash_starts_what_is_allowed(stage: Stage, command: str) -> None:
    assert _check(stage, command)
    assert stage.ran(command)
