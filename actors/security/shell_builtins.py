"""Builtins of the shell that start no program, and the forms of them that cannot be made to.

bash evaluates array subscripts in many places, and a subscript may hold a command: `test -v 'a[$(id)]'` runs `id`.
So a builtin that takes names of variables takes them here only as plain text.
"""

import re
from collections.abc import Callable, Sequence

from .shell_syntax import NotUnderstood
from .shell_words import Word, check_name

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SET = re.compile(r"[-+][efux]+")
_SET_OPTIONS = frozenset({"pipefail", "errexit", "nounset", "noglob", "xtrace"})
_BINARY = frozenset({"=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"})
_UNARY = frozenset(f"-{letter}" for letter in "bcdefghknprstuwxzGLNOS")


def check_test(words: Sequence[Word]) -> None:
    """The arguments of `test` or `[`, without a closing bracket. Raises `NotUnderstood`."""
    if any(word.splits for word in words):
        raise NotUnderstood("an argument of a test may become several; put it in double quotes")
    rest = list(words)
    while len(rest) > 1 and rest[0].value == "!":
        rest = rest[1:]
    match rest:
        case [] | [_]:
            return
        case [operator, _] if operator.value in _UNARY:
            return
        case [_, operator, _] if operator.value in _BINARY:
            return
        case _:
            raise NotUnderstood("the test is not a plain one; join plain tests with && and ||")


def _check_printf(words: Sequence[Word]) -> None:
    if words and (words[0].value is None or words[0].splits or words[0].value.startswith("-")):
        raise NotUnderstood("the format of printf is not plain text")


def _check_read(words: Sequence[Word]) -> None:
    rest = [_plain(word) for word in words]
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if flag in ("-d", "-n", "-N", "-t", "-p", "-u") and rest:
            rest.pop(0)
        elif flag not in ("-r", "-s"):
            raise NotUnderstood(f"read {flag} is not among what is understood")
    check_names(rest)


def _check_set(words: Sequence[Word]) -> None:
    rest = list(words)
    while rest and rest[0].value != "--":
        flag = _plain(rest.pop(0))
        if flag in ("-o", "+o") or (flag.endswith("o") and _SET.fullmatch(flag[:-1])):
            if not rest or _plain(rest.pop(0)) not in _SET_OPTIONS:
                raise NotUnderstood("that option of set is not among what is understood")
        elif not _SET.fullmatch(flag):
            raise NotUnderstood(f"set {flag} is not among what is understood")


def _check_wait(words: Sequence[Word]) -> None:
    if any(word.source != "$!" and not _plain(word).isdigit() for word in words):
        raise NotUnderstood("wait takes $! or a number here")


def _free(words: Sequence[Word]) -> None:
    """Whatever its arguments are, it starts nothing and sets nothing that matters."""


def check_names(names: Sequence[str]) -> None:
    """Names of variables that a builtin sets or removes. Raises `NotUnderstood`."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise NotUnderstood(f"{name!r} is not the plain name of a variable")
        check_name(name)


def _plain(word: Word) -> str:
    if word.value is None or word.splits:
        raise NotUnderstood(f"{word.source[:40]} is not plain text")
    return word.value


BUILTINS: dict[str, Callable[[Sequence[Word]], None]] = {
    **dict.fromkeys((":", "true", "false", "echo", "cd", "pwd", "exit", "return", "break", "continue", "shift"), _free),
    **dict.fromkeys(("umask", "type", "times"), _free),
    "test": check_test,
    "printf": _check_printf,
    "read": _check_read,
    "set": _check_set,
    "wait": _check_wait,
}
