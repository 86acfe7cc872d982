"""A command line as a syntax tree of which every byte is accounted for, or a refusal to understand it.

tree-sitter's grammar is made for editors: it is lenient, and where it and bash disagree a command could hide. So
a tree is only accepted when it has no error, holds kinds of nodes that are known here, leaves nothing but blanks
between its leaves, and when no leaf holds what bash would read as more than text.
"""

import re
from collections.abc import Callable, Iterator

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

MAX_BYTES = 64 * 1024
MAX_DEPTH = 80

_LANGUAGE = Language(tree_sitter_bash.language())
_KINDS = frozenset(
    """
    program comment command command_name variable_assignment variable_name word number string string_content
    raw_string ansi_c_string concatenation simple_expansion special_variable_name expansion command_substitution
    process_substitution arithmetic_expansion binary_expression unary_expression parenthesized_expression
    negation_expression list pipeline negated_command redirected_statement file_redirect file_descriptor
    herestring_redirect heredoc_redirect heredoc_start heredoc_body heredoc_end subshell
    compound_statement if_statement elif_clause else_clause for_statement while_statement do_group case_statement
    case_item extglob_pattern function_definition declaration_command unset_command test_command test_operator regex
    """.split()  # noqa: SIM905  one word per line would hide what is there
)
_TOKENS = frozenset(
    """
    ; ;; & && | || |& ( ) { } < > >> <& >& &> &>> >| <& <&- >&- <<< << <<- $( ` <( >( $(( )) $ ${ " = += - + * / % # :
    :- :+ :? ? ## %% if then elif else fi for in do done while until case esac function ! [ ] [[ ]] == != =~
    export local readonly unset
    """.split()  # noqa: SIM905  as above
) | {"\n"}
# Checked as they are written; what the grammar makes of their insides does not matter.
_WHOLE = frozenset({"expansion", "heredoc_body"})
_READ_STDIN = frozenset({"cat", "node", "python", "python3"})
_EXPANSION = re.compile(
    r"\$\{(?:#[A-Za-z_]\w*|(?:[A-Za-z_]\w*|[0-9@*#?])(?:(?::?[-+?]|##?|%%?|//?|\^\^?|,,?)[^$`(){}\[\]\\'\"!<>;&|\n]*)?)\}"
)
_DELIMITER = re.compile(r"(['\"]?)([A-Za-z_]\w*)\1")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_EXPANDS = re.compile(r"`|\$[({\[]")
_GAP = re.compile(r"(?:[ \t\n]|(?<=[ \t])\\\n|(?<=\\\n)\\\n)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# bash takes `{PATH}>file` for an assignment of a number to PATH.
_NAMED_DESCRIPTOR = re.compile(r"(?<!\$)\{[A-Za-z_]\w*\}[<>]")
_JOINED = re.compile(r"(?:\\\n)+$")


class NotUnderstood(Exception):
    """The command line cannot be understood with certainty; the text says what in it."""


def text(node: Node) -> str:
    """The source of a node."""
    return (node.text or b"").decode()


def parse(command: str) -> Node:
    """The root of the syntax tree. Raises `NotUnderstood`."""
    try:
        source = command.encode()
    except UnicodeEncodeError:
        raise NotUnderstood("it is not valid Unicode") from None
    if len(source) > MAX_BYTES:
        raise NotUnderstood(f"it has more than {MAX_BYTES:,} bytes; write long text with write_file")
    if found := _CONTROL.search(command):
        raise NotUnderstood(f"it holds the control character {found[0]!r}")
    if found := _NAMED_DESCRIPTOR.search(command):
        raise NotUnderstood(f"it names a file descriptor ({found[0]})")
    root = Parser(_LANGUAGE).parse(source).root_node
    if root.has_error:
        raise NotUnderstood("its syntax is not clear; write it more simply")
    position, before = 0, ""
    for leaf in _leaves(root):
        gap = source[position : leaf.start_byte].decode("utf-8", "replace")
        if leaf.start_byte < position or not (_GAP.fullmatch(gap) or _is_dash(before, gap, leaf)):
            raise NotUnderstood(f"what stands before {text(leaf)[:40]!r} is not clear")
        _check_leaf(leaf, source)
        position, before = leaf.end_byte, text(leaf)
    if not _GAP.fullmatch(source[position:].decode("utf-8", "replace")):
        raise NotUnderstood("its end is not clear")
    return root


def _is_dash(before: str, gap: str, leaf: Node) -> bool:
    """`python3 - <<'EOF'`: the grammar has no node for this dash, and models write it often."""
    return before in _READ_STDIN and leaf.type == "<<" and gap.strip(" ") == "-" and gap != "-"


def _leaves(root: Node) -> Iterator[Node]:
    """Every leaf in the order of the source; the inner nodes are checked on the way."""
    pending = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        _check_kind(node, depth)
        if node.child_count and node.type not in _WHOLE:
            pending.extend((child, depth + 1) for child in reversed(node.children))
        elif node.start_byte < node.end_byte:
            yield node


def _check_kind(node: Node, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotUnderstood("it is nested too deeply")
    if node.is_missing or node.type not in (_KINDS if node.is_named else _TOKENS):
        raise NotUnderstood(f"{text(node)[:40]!r} ({node.type}) is not among what is understood")
    if (check := _NODES.get(node.type)) is not None and node.is_named:
        check(node)


def _check_expansion(node: Node) -> None:
    if not _EXPANSION.fullmatch(text(node)):
        raise NotUnderstood(f"the expansion {text(node)[:40]} is not among what is understood")


def _check_redirect(node: Node) -> None:
    if len(node.children_by_field_name("destination")) > 1:
        raise NotUnderstood(f"arguments stand after the redirection {text(node)[:40]!r}; put redirections last")


def _check_herestring(node: Node) -> None:
    if node.named_child_count != 1:
        raise NotUnderstood(f"arguments stand after {text(node)[:40]!r}; put redirections last")


def _check_heredoc(node: Node) -> None:
    """The body must begin on the next line and end at the first line that is its delimiter: bash's reading."""
    children = {child.type: child for child in node.children}
    start, body, end = (children.get(f"heredoc_{part}") for part in ("start", "body", "end"))
    if start is None or body is None or end is None or not (match := _DELIMITER.fullmatch(text(start))):
        raise NotUnderstood("the delimiter of a here-document is not a plain word, or its end is missing")
    lines = text(_root(node)).split("\n")
    strip = "<<-" in children
    delimited = (
        row
        for row in range(start.end_point[0] + 1, len(lines))
        if (lines[row].lstrip("\t") if strip else lines[row]) == match[2]
    )
    if body.start_point[0] != start.end_point[0] + 1 or next(delimited, None) != end.start_point[0]:
        raise NotUnderstood(f"it is not clear where the here-document {match[2]} begins and ends")
    if not match[1] and _EXPANDS.search(_EXPANSION.sub("", _ESCAPED.sub("", text(body)))):
        raise NotUnderstood("a here-document that is not quoted holds more than variables; write <<'EOF'")


def _root(node: Node) -> Node:
    while node.parent is not None:
        node = node.parent
    return node


def _check_comment(leaf: Node, source: bytes) -> None:
    before = _JOINED.sub("", source[: leaf.start_byte].decode("utf-8", "replace"))
    if before and before[-1] not in " \t\n;&|()":
        raise NotUnderstood("it is not clear where a comment begins")


def _check_leaf(leaf: Node, source: bytes) -> None:
    if leaf.type == "comment":
        _check_comment(leaf, source)
    elif (is_plain := _LEAVES.get(leaf.type)) is not None and not is_plain(text(leaf)):
        raise NotUnderstood(f"{text(leaf)[:40]!r} is not plain text")


def _plain_word(word: str) -> bool:
    return not word.startswith("#") and "\\\n" not in word and _PLAIN.fullmatch(_ESCAPED.sub("", word)) is not None


def _plain_string(content: str) -> bool:
    rest = _ESCAPED.sub("", content)
    return '"' not in rest and not _EXPANDS.search(rest)


def _plain_pattern(pattern: str) -> bool:
    return not re.search(r"[`'\"]|\$[({\[]|[<>]\(|\\\n", pattern)


_PLAIN = re.compile(r"[^\s'\"`$;&|<>()\\]*")
_NODES: dict[str, Callable[[Node], None]] = {
    "expansion": _check_expansion,
    "file_redirect": _check_redirect,
    "herestring_redirect": _check_herestring,
    "heredoc_redirect": _check_heredoc,
}
_LEAVES: dict[str, Callable[[str], bool]] = {
    "word": _plain_word,
    "number": lambda word: re.fullmatch(r"-?\d+", word) is not None,
    "variable_name": lambda word: re.fullmatch(r"[A-Za-z_]\w*|\d+", word, re.ASCII) is not None,
    "extglob_pattern": _plain_word,
    "regex": _plain_pattern,
    "string_content": _plain_string,
    "raw_string": lambda word: re.fullmatch(r"'[^']*'", word) is not None,
    "ansi_c_string": lambda word: re.fullmatch(r"\$'(?:[^'\\]|\\.)*'", word, re.DOTALL) is not None,
}
