"""The command policy: which programs a line starts is told from its syntax, and what is not certain is refused."""

import pytest

from actors.core.settings import Settings
from actors.security.commands import judge
from actors.security.policy import CommandPolicy
from actors.wiring.policy import sandbox_policy

ALLOWED = ("ls", "cat", "wc", "sort", "head", "grep", "sed", "find", "env", "xargs", "timeout", "time", "nice", "bash")
POLICY = CommandPolicy(frozenset({*ALLOWED, "printf", "echo", "python3"}), (r"rm\s+-rf\s+", r"\|\s*bash"))
DEFAULT = sandbox_policy(Settings()).commands


def rule(command: str) -> str | None:
    refusal = judge(command, POLICY).refusal
    return refusal.rule if refusal else None


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        ("ls", ["ls"]),
        ("", []),
        ("# nothing", []),
        ("/bin/ls -l; /usr/local/bin/wc x", ["ls", "wc"]),
        ("l's' && \"ls\"", ["ls", "ls"]),
        ("A=b B='c d' ls", ["ls"]),
        ("ls | sort -n | head -3 > out 2>&1", ["ls", "sort", "head"]),
        ("cat a || { ls; } && (wc x) & ls", ["cat", "ls", "wc", "ls"]),
        ("echo $(ls `wc x`) \"$(cat 'a b')\"", ["ls", "wc", "cat"]),
        ("cat <(ls) > >(wc)", ["cat", "ls", "wc"]),
        ("if ls; then wc a; elif cat b; then :; else sort c; fi", ["ls", "wc", "cat", "sort"]),
        ('for f in *.py; do wc "$f"; done', ["wc"]),
        ("while read -r line; do echo $line; done < f", []),
        ("case $x in a|b) ls;; *) wc x;; esac", ["ls", "wc"]),
        ("f() { ls; }\nf x; f", ["ls"]),
        ("rm() { ls; }; rm x", ["ls"]),
        ("eval ls -l; exec wc x", ["ls", "wc"]),
        ("command -v rm; command ls", ["ls"]),
        ("env -i A=b ls", ["env", "ls"]),
        ("find . -name '*.py' -exec wc -l {} +", ["find", "wc"]),
        ("ls | xargs -n1 wc -l", ["ls", "xargs", "wc"]),
        ("ls | xargs -I{} wc {}", ["ls", "xargs", "wc"]),
        ("timeout -k 1 5 wc x", ["timeout", "wc"]),
        ("time ls", ["time", "ls"]),
        ("bash -ec 'ls; wc x'", ["bash", "ls", "wc"]),
        ("python3 - <<'EOF'\nprint('$(rm x)')\nEOF\nls", ["python3", "ls"]),
        ("cat <<-END | sort\n\thello $name\n\tEND\n", ["cat", "sort"]),
        ('cat <<< "$x"', ["cat"]),
        ("ls \\\n  -l", ["ls"]),
        ("ls # it's a comment\nwc x", ["ls", "wc"]),
        ('[ -f "$x" ] && [[ $y == a* ]] || test 1 -lt 2', []),
        ("echo $((1 + 2 * 3)) ${x:-none} ${#x} ${f%.py}", []),
        ("set -euo pipefail; export A=1; cd x; printf '%s\\n' a", []),
        ("sed -n '1,5p' f", ["sed"]),
    ],
)
def test_what_is_allowed_is_understood(command, programs):
    judgement = judge(command, POLICY)
    assert (judgement.refusal, list(judgement.programs)) == (None, programs)


HIDDEN = [
    "rm x", "/bin/rm x", "r\\m x", "r'm' x", '"rm" x', "A=b rm x", "> f rm x", "2>&1 rm", "! rm x", "time rm",
    "ls; rm x", "ls && rm x", "ls || rm x", "ls | rm x", "ls |& rm", "ls & rm x", "(rm x)", "{ rm x; }", "ls\nrm x",
    "echo $(rm x)", "echo `rm x`", 'echo "$(rm x)"', 'echo "`rm x`"', "cat <(rm x)", "ls > >(rm x)", "x=$(rm x)",
    "cat <<< $(rm x)", "ls > $(rm x)", "export A=$(rm x)", "A=$(rm x) ls", "case $(rm x) in a) ls;; esac",
    "if rm x; then ls; fi", "if ls; then rm x; fi", "for a in $(rm x); do ls; done", "for a in b; do rm x; done",
    "while rm x; do ls; done", "until ls; do rm x; done", "case a in a) rm x;; esac", "f() { rm x; }; f",
    "function f { rm x; }; f", "g() { rm x; }; g; rm() { ls; }", "eval 'rm x'", "eval rm x", "eval 'eval \"rm x\"'",
    "exec rm x", "command rm x", "command -p rm x", "env rm x", "env -i A=b rm x", "env -u A rm x", "env env rm x",
    "ls | xargs rm", "ls | xargs -0 -n 1 rm", "find . -exec rm {} \\;", "find . -name a -execdir rm {} +",
    "find . -ok rm {} \\;", "timeout 5 rm x", "timeout -s KILL 5 rm x", "nice -n 5 rm x", "bash -c 'rm x'",
    "bash -c 'bash -c \"rm x\"'", "cat <<EOF && rm x\nhello\nEOF", "cat <<EOF\nhello\nEOF\nrm x", "ls #\nrm x",
    "alias ls=rm", "source x", ". x", "trap 'rm x' EXIT", "coproc rm x", "hash -p /bin/rm ls", "enable -f x y",
    "./ls", "/workspace/ls", "../bin/ls", "/usr/bin/../../workspace/ls", "~/ls", "time -p ls", "declare -i x",
    "builtin eval rm", "mapfile -C rm x", "echo a#;rm x", "sh x",
]  # fmt: skip


@pytest.mark.parametrize("command", HIDDEN)
def test_a_program_that_is_not_allowed_is_found_wherever_it_stands(command):
    assert rule(command) in ("allowed_commands", "not_understood")


UNCERTAIN = [
    "$x", "$(echo rm) x", "`echo rm`", "r$x", "${x}", "r* x", "{rm,x}", "$'rm' x", "$\"rm\" x", "r\\\nm x",
    "PATH=. ls", "export PATH=.", "unset PATH", "read PATH", "for PATH in .; do ls; done", "env PATH=. ls", "IFS=x ls",
    "LD_PRELOAD=./x ls", "BASH_ENV=x bash -c ls", "PS4='$(rm)' ls", "printf -v PATH .", "printf $x", "{PATH}>f ls",
    "echo ${PATH:=.}", "test -v 'a[$(rm x)]'", "[ -v 'a[$(rm x)]' ]", "[ $x = a ]", '[ "$o" \'a[$(rm)]\' ]',
    "[[ -v 'a[$(rm)]' ]]", "[[ $x -eq 1 ]]", "echo $((x))", "echo $((a[$(rm x)]))", "((x))", "let x", "echo $[1+2]",
    "a=(1 2)", "a[$(rm x)]=1", "echo ${a[1]}", "echo ${!x}", "echo ${x@P}", "echo ${x:1}", "echo ${x:-$(rm)}",
    "echo ${x/`rm`/y}", "for ((i=0; i<3; i++)); do ls; done", "select x in a; do ls; done", "read 'a[$(rm)]'",
    "cat <<EOF\n$(rm x)\nEOF", "cat <<EOF\n`rm x`\nEOF", "cat <<'E F'\nx\nE F\n", "cat <<EOF\nx", "echo 'open",
    "rm() { ls; } & rm x", "ls && rm() { ls; }; rm x", "if ls; then rm() { ls; }; fi; rm x", "eval 'rm() { ls; }'; rm",
    "rm() { ls; }; bash -c 'rm x'",
    "rm() { ls; }; env rm x",
    "rm() { ls; }; ls | xargs rm",
    "f() { ls; }; unset f; f", "ls() { :; }; unset -f ls", "set -k", "wait -p x", "find . $x", 'find "$x" rm "{}" ";"',
    "find . -name *.py", "find *", "timeout $t ls", "xargs $x", "xargs -I ls ls", "xargs env", "find . -exec env {} +",
    "env $x ls", "env -S 'rm x'", "bash x.sh", "bash", "bash -c \"$x\"", "eval $x", "eval \"$(cat f)\"", "exec -a x ls",
    "ls\rrm x", "ls\x00rm", "ls \udc80", "(" * 100 + "ls" + ")" * 100, "ls " + "x" * 70_000, "export -n x",
    "ls\u00a0rm", "if ls", "ls &&", "| ls", ";; ls", "read -a x", "readonly -f ls",
]  # fmt: skip


@pytest.mark.parametrize("command", UNCERTAIN)
def test_what_cannot_be_understood_with_certainty_is_refused(command):
    assert rule(command) in ("not_understood", "allowed_commands")


@pytest.mark.parametrize("command", ["rm -rf /", "echo rm  -rf x", "cat x | bash", "ls |bash", "bash -c 'ls | bash'"])
def test_blocked_patterns_are_found_in_the_text(command):
    assert rule(command) == "blocked_patterns"


def test_a_pattern_is_found_in_what_quotes_put_together():
    assert rule("eval 'ls |' bash") == "blocked_patterns"


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf x",
        "sudo ls",
        "chmod 777 x",
        "ls &> /dev/null",
        "cat x | bash",
        "python3 -c 'eval (1)'",
        "node -e 'exec(1)'",
    ],
)
def test_the_patterns_of_the_security_section_are_blocked_from_the_start(command):
    refusal = judge(command, DEFAULT).refusal
    assert refusal is not None
    assert refusal.rule == "blocked_patterns"


@pytest.mark.parametrize(
    "command",
    [
        "ls > /dev/null",
        "ls >/dev/null",
        "ls 2>/dev/null",
        "ls 2> /dev/null | wc -l",
        "find / -name x 2>/dev/null; echo done",
        "grep -q x f >/dev/null && echo yes",
        "cat < /dev/null",
        "ls x 2>&1",
        "ls 2>/dev/null; ls >/dev/null",
    ],
)
def test_one_stream_may_be_thrown_away(command):
    assert judge(command, DEFAULT).refusal is None


@pytest.mark.parametrize(
    "command",
    [
        "ls >/dev/null 2>&1",
        "ls > /dev/null 2>& 1",
        "ls >>/dev/null 2>>/dev/null",
        "ls 1>/dev/null 2>/dev/null",
        "ls 2>/dev/null >/dev/null",
        "ls 2> /dev/null 1>&2",
        "ls >&/dev/null",
        "ls &>>/dev/null",
        "nohup ls > /dev/null 2>&1 &",
        "ls | grep x >/dev/null 2>&1 || touch f",
    ],
)
def test_a_command_that_says_nothing_at_all_is_blocked(command):
    refusal = judge(command, DEFAULT).refusal
    assert refusal is not None
    assert refusal.rule == "blocked_patterns"


@pytest.mark.parametrize("name", ["npm", "node", "python3", "pip3", "git", "curl", "wget", "ls", "cat", "grep", "find"])
def test_the_commands_of_the_security_section_are_allowed_from_the_start(name):
    assert judge(name, DEFAULT).refusal is None


@pytest.mark.parametrize("name", ["rm", "chmod", "kill", "bash", "sh", "ln", "dd", "make", "docker", "ssh"])
def test_what_is_not_on_the_list_is_refused_from_the_start(name):
    refusal = judge(f"{name} x", DEFAULT).refusal
    assert refusal is not None
    assert refusal.rule == "allowed_commands"
    assert name in refusal.reason


def test_an_operator_can_allow_everything_but_the_patterns():
    everything = CommandPolicy(frozenset({"*"}), POLICY.blocked_patterns)
    assert judge("rm x; $y; ((z))", everything).refusal is None
    assert judge("rm -rf x", everything).refusal is not None


def test_a_pattern_that_is_none_is_found_at_the_start():
    with pytest.raises(ValueError, match="not a regular expression"):
        Settings(policy_blocked_patterns=("(",))
