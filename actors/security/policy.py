"""What tools may do in a sandbox: one value, made from the settings, read by every check.

A policy is a guardrail and not a boundary: an interpreter that it allows can do whatever the sandbox lets it do.
What holds code in is the sandbox (`actors/sandbox`).
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

ANY = "*"
"""Among the allowed commands: every program, and no need to understand the command line."""

Rule: TypeAlias = Literal[
    "allowed_commands",
    "blocked_patterns",
    "not_understood",
    "allowed_directories",
    "blocked_files",
    "max_file_size",
    "regular_files",
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done: the rule's name for programs, the reason for the model."""

    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """`allowed` are names of programs; `blocked_patterns` are regular expressions sought in the command line."""

    allowed: frozenset[str]
    blocked_patterns: tuple[str, ...] = ()

    def blocked_by(self, command: str) -> Refusal | None:
        """The first blocked pattern that is found in `command`."""
        for pattern in self.blocked_patterns:
            if _compiled(pattern).search(command):
                return Refusal("blocked_patterns", f"the pattern {pattern} is blocked")
        return None


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """`allowed_directories` are absolute paths inside the sandbox; `blocked_files` are shell patterns of names,
    or of whole paths when they hold a slash."""

    allowed_directories: tuple[str, ...]
    blocked_files: tuple[str, ...] = ()
    max_file_bytes: int = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """`log_all_commands` audits what is allowed, too; what is refused is always audited."""

    commands: CommandPolicy
    files: FilePolicy
    log_all_commands: bool = field(default=True)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
