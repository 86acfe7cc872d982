"""Arithmetic in words or signs as a Python expression, and text that is Python already."""

import ast
import re
import warnings

_MAX_CHARS = 200
_CUE = (
    r"(?:please )?(?:what(?:'s| is)|how much is|compute|calculate|evaluate|work out"
    r"|quanto (?:é|e|são)|calcul[ae]|was ist|wie ?viel ist|berechne)\b"
)
_ASKED = re.compile(rf"^\s*(?:{_CUE})?\s*(.+?)\s*(?:(?:in|with|using|em|mit) python)?[\s?.!=]*$", re.IGNORECASE)
_OPERATORS = [
    (re.compile(pattern, re.IGNORECASE), symbol)
    for pattern, symbol in (
        (r"\b(?:to the power of|elevado a|hoch)\b|\^", "**"),
        (r"\b(?:plus|mais)\b", "+"),
        (r"\b(?:minus|menos)\b|\u2212", "-"),
        (r"\b(?:multiplied by|times|vezes|mal)\b|[\u00d7\u00b7]|(?<=\d)\s*x\s*(?=\d)", "*"),
        (r"\b(?:divided by|dividido por|geteilt durch)\b|\u00f7", "/"),
        (r"\b(?:modulo|mod)\b", "%"),
        (r"\s*\bsquared\b", "**2"),
        (r"\s*\bcubed\b", "**3"),
    )
]
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")


def expression_in(text: str) -> str | None:
    """The arithmetic expression that `text` asks for, in Python; None when it asks for something else."""
    match = _ASKED.match(text)
    if match is None or len(match[1]) > _MAX_CHARS or _DATE.fullmatch(match[1]):
        return None
    source = match[1].strip("`")
    for pattern, symbol in _OPERATORS:
        source = pattern.sub(symbol, source)
    return source.strip() if _is_arithmetic(source) else None


def _is_arithmetic(source: str) -> bool:
    tree = _parsed(source.strip())
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return False
    nodes = list(ast.walk(tree.body[0].value))
    allowed = all(
        isinstance(node, ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop)
        or (isinstance(node, ast.Constant) and type(node.value) in (int, float))
        for node in nodes
    )
    return allowed and any(isinstance(node, ast.BinOp) for node in nodes)


def code_of(text: str) -> str | None:
    """`text` as a program if it is Python; a bare expression is printed."""
    tree = _parsed(text)
    match tree.body if tree else []:
        case [ast.Expr(value=ast.Call(func=ast.Name(id="print")))]:
            return text
        case [ast.Expr(value=ast.Name() | ast.Constant())]:
            return None  # a word, not a program
        case [ast.Expr()]:
            return f"print({text.strip()})"
        case []:
            return None
        case _:
            return text


def _parsed(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # odd escapes are the user's own affair
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
