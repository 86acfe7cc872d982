"""What follows when a user's spending reaches a threshold.

| severity | what is done beside the event, the audit row, the metric and the webhook |
|---|---|
| `warning` | nothing |
| `critical` | the window's bucket is `paused`: what is expensive is refused until the window ends |
| `emergency` | the user's bucket without a window is `suspended`: what costs is refused until an operator lifts it |

Whoever charged reacts at once; should that process die, `Reactions.round` does it. Every step may be done again.
"""

import structlog
from sqlalchemy.exc import IntegrityError

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import GreenroomError
from ..core.events import BudgetReached
from ..core.ids import derived_id
from ..ledger.alerts import AlertBook
from ..ledger.base import Accounts, Flag, Scope, window_end, window_of
from ..ledger.thresholds import Alert
from ..security.audit import Audit, AuditRecord

AT_ONCE = 100
_LEASE_S = 30.0


class Reactions:
    """Carries out what alerts call for. `tells` says that there is a webhook for them."""

    def __init__(self, accounts: Accounts, alerts: AlertBook, audit: Audit, *, clock: Clock, tells: bool) -> None:
        self._accounts = accounts
        self._alerts = alerts
        self._audit = audit
        self._clock = clock
        self._tells = tells
        self._logger = structlog.get_logger("greenroom.budgets")

    async def react(self, alert: Alert) -> None:
        """Raises `LedgerUnavailable`, `StoreUnavailable`; then the round does it again."""
        await self._record(alert)
        bucket, flag = switch_of(alert)
        if flag is not None:
            await self._accounts.flag(bucket, flag)
        if await self._alerts.reacted(alert, to_send=self._tells):
            telemetry.BUDGET_THRESHOLDS.labels(window_of(alert.bucket)[1], alert.severity).inc()
            self._logger.warning(
                "budget threshold reached",
                user_id=alert.user_id,
                bucket=alert.bucket,
                threshold=alert.name,
                spent_micros=alert.spent_micros,
            )

    async def round(self) -> None:
        """React to what nobody reacted to. Raises `StoreUnavailable`."""
        for alert in await self._alerts.due("fired", limit=AT_ONCE):
            if not await self._alerts.claim(alert, for_s=_LEASE_S):
                continue
            try:
                await self.react(alert)
            except GreenroomError as error:
                self._logger.warning("no reaction yet", alert_id=alert.id, error=error.message)

    async def _record(self, alert: Alert) -> None:
        record = AuditRecord(
            id=derived_id("aud", alert.id),
            at=self._clock.now(),
            user_id=alert.user_id,
            action=f"budget.{alert.severity}",
            decision="allowed" if alert.severity == "warning" else "refused",
            session_id=alert.session_id,
            rule=alert.name,
            detail=told(alert),
        )
        try:
            await self._audit.write(record)
        except IntegrityError:
            self._logger.info("audited before", alert_id=alert.id)


def switch_of(alert: Alert) -> tuple[str, Flag | None]:
    """The bucket that is flagged, and how."""
    match alert.severity:
        case "emergency":
            return Scope("user", alert.user_id).bucket(alert.fired_at).name, "suspended"
        case "critical":
            return alert.bucket, "paused"
        case "warning":
            return alert.bucket, None


def told(alert: Alert) -> dict[str, str | int | None]:
    """An alert for the audit and the webhook."""
    return {
        "alert_id": alert.id,
        "bucket": alert.bucket,
        "window": window_of(alert.bucket)[1],
        "threshold": alert.name,
        "threshold_micros": alert.threshold_micros,
        "spent_micros": alert.spent_micros,
        "limit_micros": alert.limit_micros,
    }


def event_of(alert: Alert) -> BudgetReached:
    """An alert for the session whose cost it was."""
    return BudgetReached(
        alert_id=alert.id,
        severity=alert.severity,
        window=window_of(alert.bucket)[1],
        threshold_micros=alert.threshold_micros,
        spent_micros=alert.spent_micros,
        limit_micros=alert.limit_micros,
        resets_at=window_end(alert.bucket),
    )
