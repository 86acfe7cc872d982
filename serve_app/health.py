"""Running checks: each within its deadline, none of them able to break the report."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from actors.core.errors import GreenroomError

from .services import Check, CheckResult

CHECK_S = 3.0

_ORDER: tuple[Literal["healthy", "warning", "unhealthy"], ...] = ("healthy", "warning", "unhealthy")


@dataclass(frozen=True, slots=True)
class Health:
    """One check with its deadline."""

    check: Check

    async def result(self) -> CheckResult:
        name = getattr(self.check, "__name__", "check").removeprefix("check_")
        try:
            async with asyncio.timeout(CHECK_S):
                return await self.check()
        except TimeoutError:
            return CheckResult(name, "unhealthy", f"no answer within {CHECK_S:g} s")
        except GreenroomError as error:
            return CheckResult(name, "unhealthy", error.message)
        except Exception as error:  # noqa: BLE001 - a check that breaks is a finding, and must not hide the others
            return CheckResult(name, "unhealthy", f"the check failed: {type(error).__name__}")


def worst(results: Iterable[CheckResult]) -> Literal["healthy", "warning", "unhealthy"]:
    """The status of the whole; of nothing it is healthy."""
    return _ORDER[max((_ORDER.index(result.status) for result in results), default=0)]
