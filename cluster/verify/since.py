"""How far back to look: `7d`, `12h`, `30m`, `90s`, or a moment such as `2026-11-30T08:00:00Z`."""

import re
from datetime import UTC, datetime, timedelta

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime) -> datetime:
    """The moment that `text` means. Raises ValueError with what would be right."""
    try:
        if age := _AGE.fullmatch(text.strip()):
            return now - timedelta(**{_UNITS[age[2]]: float(age[1])})
        said = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no age such as 7d, 12h or 30m, and no date such as 2026-11-30") from None
    return said if said.tzinfo else said.replace(tzinfo=UTC)
