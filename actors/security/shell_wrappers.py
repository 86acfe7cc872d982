"""Programs and builtins whose arguments are a command: what they run, when that can be told beforehand.

What is not told here, an allowed program may still start: `python3`, `git` or `tar` run what they are asked to.
That is why a policy is a guardrail.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .shell_syntax import NotUnderstood
from .shell_words import Word, check_name, literal

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_SHELL_FLAGS = re.compile(r"-[eux]*c")
_FIND_RUNS = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
_FIND_VALUES = frozenset(
    {"-name", "-iname", "-path", "-ipath", "-newer", "-type", "-mtime", "-mmin", "-size", "-regex"}
)
_XARGS_FLAGS = frozenset({"-0", "-r", "-t", "--null", "--no-run-if-empty", "--verbose"})
_XARGS_VALUES = re.compile(r"-[nLPdsI]")


@dataclass(frozen=True, slots=True)
class Inner:
    """What a wrapper runs: a command by its words, or with `script` the text of a command line.

    With `extended` the wrapper adds arguments that nobody knows yet; with `builtins` this shell itself runs it, so that
    builtins come before programs, and a script knows its functions.
    """

    words: tuple[Word, ...] = ()
    script: str | None = None
    extended: bool = False
    builtins: bool = False


def _plain(word: Word) -> str:
    if word.value is None or word.splits:
        raise NotUnderstood(f"{word.source[:40]} is not plain text, and decides what is run")
    return word.value


def _command(words: Sequence[Word]) -> list[Inner]:
    rest = list(words)
    if rest and rest[0].value in ("-v", "-V"):
        return []
    if rest and rest[0].value == "-p":
        rest = rest[1:]
    return [Inner(tuple(rest), builtins=True)] if rest else []


def _exec(words: Sequence[Word]) -> list[Inner]:
    return [Inner(tuple(words))] if words else []


def _eval(words: Sequence[Word]) -> list[Inner]:
    return [Inner(script=" ".join(_plain(word) for word in words), builtins=True)]


def _env(words: Sequence[Word]) -> list[Inner]:
    rest = list(words)
    while rest:
        if (assigned := _ASSIGNMENT.match(rest[0].source)) and not rest[0].splits:
            check_name(assigned[1])
        elif rest[0].value in ("-u", "--unset") and len(rest) > 1:
            rest.pop(0)
            check_name(_plain(rest[0]))
        elif rest[0].value not in ("-", "-i", "--ignore-environment", "-0"):
            return [Inner(tuple(rest))]
        rest.pop(0)
    return []


def _xargs(words: Sequence[Word]) -> list[Inner]:
    rest = list(words)
    replaced: str | None = None
    while rest and _plain(rest[0]).startswith("-"):
        flag = _plain(rest.pop(0))
        if _XARGS_VALUES.match(flag):
            value = flag[2:] or (_plain(rest.pop(0)) if rest else "")
            replaced = value if flag.startswith("-I") else replaced
        elif flag not in _XARGS_FLAGS:
            raise NotUnderstood(f"xargs {flag} is not among what is understood")
    if not rest:
        return [Inner((literal("echo"),))]
    if replaced is not None and replaced in _plain(rest[0]):
        raise NotUnderstood("xargs puts its input in the place of the program's name")
    return [Inner(tuple(rest), extended=True)]


def _find(words: Sequence[Word]) -> list[Inner]:
    found: list[Inner] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word.value in _FIND_VALUES:
            if position < len(words) and words[position].splits:
                raise NotUnderstood(f"put {words[position].source[:40]} in quotes, or the shell expands it for find")
            position += 1
        elif word.value in _FIND_RUNS:
            end = next((n for n in range(position, len(words)) if words[n].value in (";", "+")), len(words))
            found.append(Inner(tuple(words[position:end]), extended=True))
            position = end + 1
        elif word.value is None and not _is_plain_glob(word):
            raise NotUnderstood(f"{word.source[:40]} may become an option of find that runs a program")
    return found


def _is_plain_glob(word: Word) -> bool:
    """A pattern that cannot become an option: it begins with a letter, a dot or a slash."""
    return re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./*?-]*", word.source) is not None


def _timeout(words: Sequence[Word]) -> list[Inner]:
    rest = list(words)
    while rest and _plain(rest[0]).startswith("-"):
        flag = _plain(rest.pop(0))
        if flag in ("-k", "-s") and rest:
            _plain(rest.pop(0))
        elif flag not in ("-v", "--foreground", "--preserve-status"):
            raise NotUnderstood(f"timeout {flag} is not among what is understood")
    if len(rest) < 2:
        return []
    _plain(rest[0])
    return [Inner(tuple(rest[1:]))]


def _nice(words: Sequence[Word]) -> list[Inner]:
    rest = list(words)
    while rest and _plain(rest[0]).startswith("-"):
        if _plain(rest.pop(0)) == "-n" and rest:
            _plain(rest.pop(0))
    return [Inner(tuple(rest))] if rest else []


def _plainly(words: Sequence[Word]) -> list[Inner]:
    """Options are not understood; the first word is the program."""
    return [Inner(tuple(words))] if words else []


def _time(words: Sequence[Word]) -> list[Inner]:
    # The keyword of bash; with an option, a shell in POSIX mode looks for a program of that name.
    if words and words[0].source.startswith("-"):
        raise NotUnderstood("time is understood without options")
    return [Inner(tuple(words), builtins=True)] if words else []


def _shell(words: Sequence[Word]) -> list[Inner]:
    if len(words) < 2 or not _SHELL_FLAGS.fullmatch(_plain(words[0])):
        raise NotUnderstood("a shell is only understood as `bash -c` with plain text")
    return [Inner(script=_plain(words[1]))]


BUILTIN_WRAPPERS: dict[str, Callable[[Sequence[Word]], list[Inner]]] = {
    "command": _command,
    "exec": _exec,
    "eval": _eval,
}
"""Parts of the shell: they are no programs, so only what they run must be allowed."""

WRAPPERS: dict[str, Callable[[Sequence[Word]], list[Inner]]] = {
    "env": _env,
    "xargs": _xargs,
    "find": _find,
    "time": _time,
    "timeout": _timeout,
    "nice": _nice,
    "nohup": _plainly,
    "setsid": _plainly,
    "bash": _shell,
    "sh": _shell,
    "dash": _shell,
}
"""Programs: they must be allowed themselves, and so must what they run."""
