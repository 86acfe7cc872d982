"""Words of a command line: what they are after bash has expanded them, as far as that is certain beforehand."""

import re
from dataclasses import dataclass

from tree_sitter import Node

from .shell_syntax import NotUnderstood, text

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PATTERN = re.compile(r"[*?\[\]{}~]")
# Braces with nothing in them are left alone by bash; `find` and `xargs` take them for a place.
_BRACES = re.compile(r"[A-Za-z0-9_./-]*\{\}[A-Za-z0-9_./-]*")
_EXPANDING = frozenset({"simple_expansion", "expansion", "command_substitution", "arithmetic_expansion"})
# What the shell, the loader or a program that is allowed takes as an order, and not as data.
_RESERVED = re.compile(
    r"PATH|IFS|ENV|BASH.*|SHELL.*|PS[0-4]|PROMPT_.*|LD_.*|GIT_.*|.*PAGER|EDITOR|VISUAL|CDPATH|GLOBIGNORE|EXECIGNORE"
    r"|FIGNORE|HIST.*|HOSTFILE|INPUTRC|MAIL.*|OPT.*|POSIXLY_CORRECT|TIMEFORMAT|TMOUT|FUNC.*|COMP.*|DIRSTACK|GROUPS|E?UID"
    r"|PPID|S?RANDOM|SECONDS|LINENO|EPOCH.*|MAPFILE|READLINE_.*|PIPESTATUS|FCEDIT|GCONV_PATH|LOCPATH|_|\d+"
)


@dataclass(frozen=True, slots=True)
class Word:
    """`value` is what a program will see, None where that is only known when it runs.

    `splits` says that it may become none or several words then.
    """

    source: str
    value: str | None
    splits: bool = False


def literal(value: str) -> Word:
    """A word that is what it is."""
    return Word(value, value)


def word(node: Node) -> Word:
    """The word that a node of the syntax tree stands for."""
    if not node.is_named or node.type == "test_operator" or _BRACES.fullmatch(text(node)):
        return literal(text(node))
    return Word(text(node), _value(node), _splits(node))


def check_name(name: str) -> None:
    """Raises `NotUnderstood` for a variable that changes what the shell itself does."""
    if _RESERVED.fullmatch(name):
        raise NotUnderstood(f"the variable {name} changes how commands are run, and may not be set")


def _value(node: Node) -> str | None:
    source = text(node)
    match node.type:
        case "word":
            return None if _PATTERN.search(_ESCAPE.sub("", source)) else _ESCAPE.sub(r"\1", source)
        case "number":
            return source
        case "raw_string":
            return source[1:-1]
        case "string":
            expands = any(child.type in _EXPANDING for child in node.named_children)
            return None if expands or "\\" in source else source[1:-1]
        case "concatenation" | "command_name":
            values = [_value(child) for child in node.children]
            return None if None in values else "".join(value or "" for value in values)
        case _:
            return None


def _splits(node: Node) -> bool:
    match node.type:
        case "word":
            return _PATTERN.search(_ESCAPE.sub("", text(node))) is not None
        case "number" | "raw_string" | "ansi_c_string":
            return False
        case "string":
            return "$@" in text(node) or "${@" in text(node)
        case "concatenation" | "command_name":
            return any(_splits(child) for child in node.children)
        case _:
            return True
