"""Which programs a command line starts, and whether the policy allows each of them.

The judgement comes before anything is run, for the whole line: one program that is not allowed refuses all of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tree_sitter import Node

from .policy import ANY, CommandPolicy, Refusal
from .shell_builtins import BUILTINS, check_names, check_test
from .shell_syntax import NotUnderstood, parse, text
from .shell_words import check_name, word
from .shell_wrappers import BUILTIN_WRAPPERS, WRAPPERS, Inner

_PROGRAM_PATH = re.compile(r"/(?:usr/(?:local/)?)?s?bin/([^/]+)")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEPTH_MAX = 16
_DYNAMIC_TEST = frozenset({"-v", "-R", "-o", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"})


@dataclass(frozen=True, slots=True)
class Judgement:
    """`programs` as they stand in the line, as far as it was read; `refusal` is None for what is allowed."""

    programs: tuple[str, ...] = ()
    refusal: Refusal | None = None


class _NotAllowed(Exception):
    def __init__(self, program: str) -> None:
        super().__init__(program)
        self.program = program


def judge(command: str, policy: CommandPolicy) -> Judgement:
    """Whether `command`, a line for `sh -c`, may run. Pure computation, milliseconds for the longest line."""
    if refusal := policy.blocked_by(command):
        return Judgement(refusal=refusal)
    if ANY in policy.allowed:
        return Judgement()
    line = _Line(policy)
    try:
        line.read(command)
    except _NotAllowed as error:
        reason = f"the program {error.program} is not among those that are allowed"
        return Judgement(tuple(line.programs), Refusal("allowed_commands", reason))
    except _Blocked as error:
        return Judgement(tuple(line.programs), error.refusal)
    except NotUnderstood as error:
        reason = f"the command line could not be understood with certainty: {error}"
        return Judgement(tuple(line.programs), Refusal("not_understood", reason))
    return Judgement(tuple(line.programs))


class _Blocked(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class _Line:
    """One reading of a command line, in the order of its text."""

    def __init__(self, policy: CommandPolicy) -> None:
        self.programs: list[str] = []
        self._policy = policy
        self._functions: set[str] = set()
        self._depth = 0

    def read(self, command: str) -> None:
        if refusal := self._policy.blocked_by(command):
            raise _Blocked(refusal)
        self._visit(parse(command))

    def _visit(self, node: Node) -> None:
        match node.type:
            case "command":
                self._command(node)
            case "variable_assignment":
                check_name(text(node.children[0]))
            case "for_statement":
                check_names([text(child) for child in node.children_by_field_name("variable")])
            case "declaration_command" | "unset_command":
                self._declaration(node)
            case "test_command":
                _check_test_command(node)
            case "arithmetic_expansion":
                _check_arithmetic(node)
            case "function_definition":
                self._function(node)
                return
            case _:
                pass
        if node.type != "expansion":
            for child in node.children:
                self._visit(child)

    def _command(self, node: Node) -> None:
        words = [word(child) for child in node.children if child.is_named and child.type not in _NO_WORDS]
        if words and words[0].value in self._functions:
            return
        if words:
            self._run(Inner(tuple(words), builtins=True))

    def _run(self, command: Inner) -> None:
        words = command.words
        name = words[0].value if words else None
        if name is None or words[0].splits:
            raise NotUnderstood(f"the name of a program is not plain text ({words[0].source[:40] if words else ''})")
        if name in BUILTINS and command.builtins:
            BUILTINS[name](words[1:])
        elif name in BUILTIN_WRAPPERS and command.builtins:
            self._run_all(BUILTIN_WRAPPERS[name](words[1:]))
        elif (program := self._allow(name)) in WRAPPERS:
            if command.extended:
                raise NotUnderstood(f"{program} would get arguments that decide what it runs")
            self._run_all(WRAPPERS[program](words[1:]))

    def _run_all(self, commands: Sequence[Inner]) -> None:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise NotUnderstood("commands are nested in commands too deeply")
        for inner in commands:
            if inner.script is not None:
                known = self._functions
                # A shell of its own knows none of this one's functions.
                self._functions = known if inner.builtins else set()
                self.read(inner.script)
                self._functions = known
            else:
                self._run(inner)
        self._depth -= 1

    def _allow(self, name: str) -> str:
        """The program that `name` starts. A path counts only where the sandbox keeps its programs, read-only."""
        program = match[1] if (match := _PROGRAM_PATH.fullmatch(name)) else name
        if "/" in program or program not in self._policy.allowed:
            raise _NotAllowed(name or "''")
        self.programs.append(program)
        return program

    def _declaration(self, node: Node) -> None:
        for child in node.named_children:
            if child.type not in ("variable_name", "variable_assignment"):
                raise NotUnderstood(f"{text(node)[:40]!r} is more than names and values")
            name = text(child if child.type == "variable_name" else child.children[0])
            check_names([name])
            if name in self._functions:
                raise NotUnderstood(f"{name} is the name of a function, too")

    def _function(self, node: Node) -> None:
        """A function counts for what stands after it, when nothing but the line's order decides that it is there."""
        name_node = node.child_by_field_name("name")
        name = text(name_node) if name_node else ""
        after = node.next_sibling
        unconditional = self._depth == 0 and node.parent is not None and node.parent.type == "program"
        if not unconditional or (after is not None and not after.is_named and after.type not in (";", "\n")):
            raise NotUnderstood(f"it is not certain that the function {name} is there when it is called")
        if not _FUNCTION.fullmatch(name) or name in BUILTINS or name in BUILTIN_WRAPPERS or name in _SPECIAL:
            raise NotUnderstood(f"a function may not be called {name}")
        for child in node.children:
            if child.type != "word":
                self._visit(child)
        self._functions.add(name)


_NO_WORDS = frozenset({"variable_assignment", "file_redirect", "herestring_redirect", "heredoc_redirect"})
# In POSIX mode these are found before functions, and a function of such a name ends the shell.
_SPECIAL = frozenset(
    {
        "break",
        "continue",
        "eval",
        "exec",
        "exit",
        "export",
        "readonly",
        "return",
        "set",
        "shift",
        "times",
        "trap",
        "unset",
    }
)


def _check_arithmetic(node: Node) -> None:
    """bash evaluates the text of a variable in arithmetic, commands in subscripts and all: numbers only."""
    if any(child.type not in _ARITHMETIC for child in _below(node)):
        raise NotUnderstood(f"arithmetic with more than numbers, {text(node)[:40]}; use python3 for that")


_ARITHMETIC = frozenset({"number", "binary_expression", "unary_expression", "parenthesized_expression"}) | frozenset(
    ("$((", "))", "(", ")", "+", "-", "*", "/", "%", "<", ">", "<=", ">=", "==", "!=")
)


def _below(node: Node) -> list[Node]:
    found = list(node.children)
    for child in found:
        found.extend(child.children)  # the list grows while it is read: all that is below, breadth first
    return found


def _check_test_command(node: Node) -> None:
    operators = {text(child) for child in _below(node) if child.type in ("test_operator", "word")}
    if node.children[0].type == "[":
        check_test([word(part) for part in _operands(node)])
    elif node.children[0].type != "[[" or operators & _DYNAMIC_TEST:
        raise NotUnderstood(f"{text(node)[:40]!r} may evaluate what it compares; use [ with quotes")


def _operands(node: Node) -> list[Node]:
    """The words between the brackets, in order."""
    found: list[Node] = []
    for child in node.children:
        if child.type in ("[", "]"):
            continue
        if child.type.endswith("_expression"):
            found.extend(_operands(child))
        else:
            found.append(child)
    return found
