"""What a check of `greenroom doctor` found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Grade: TypeAlias = Literal["fine", "weak", "missing"]
"""`weak`: it runs, but less well than it could. `missing`: it does not run without it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` is what is there; `fix` is what to do about it, and empty where nothing needs doing."""

    name: str
    grade: Grade
    found: str
    fix: str = ""
