"""Operators are told of alerts: one POST of JSON that Slack shows, signed, until it was taken or given up.

At least once: a receiver knows by `X-Greenroom-Delivery`, the alert's id, what it has had before. The signature is
`v1=` and the HMAC-SHA256, in hex, of the time in `X-Greenroom-Timestamp`, a dot, and the body.
"""

import hashlib
import hmac
import json
from typing import Any

import httpx
import structlog

from ..core import telemetry
from ..core.clock import Clock, rfc3339
from ..core.money import format_usd
from ..ledger.alerts import AlertBook
from ..ledger.base import window_end, window_of
from ..ledger.thresholds import Alert
from .reactions import told

AT_ONCE = 10
TIMEOUT_S = 10.0
_LEASE_S = AT_ONCE * TIMEOUT_S
_FIRST_S, _LONGEST_S = 5.0, 600.0

_COLOURS = {"warning": "warning", "critical": "danger", "emergency": "danger"}
_CONSEQUENCES = {
    "warning": "Nothing is refused.",
    "critical": "What is expensive is refused until the window ends.",
    "emergency": "The user is suspended until an operator lifts it: greenroom budget resume {user}",
}


class Webhook:
    """Tells one address of every alert. Belongs to the directory's process; two would tell nothing twice."""

    def __init__(
        self, alerts: AlertBook, client: httpx.AsyncClient, url: str, *, secret: str | None, tries: int, clock: Clock
    ) -> None:
        """Without a `secret` nothing is signed: Slack's own addresses are secrets, and ask for no signature."""
        self._alerts = alerts
        self._client = client
        self._url = url
        self._secret = secret
        self._tries = tries
        self._clock = clock
        self._logger = structlog.get_logger("greenroom.budgets")

    async def round(self) -> None:
        """Try what is due. Raises `StoreUnavailable`, and nothing of the receiver's."""
        for alert in await self._alerts.due("reacted", limit=AT_ONCE):
            if await self._alerts.claim(alert, for_s=_LEASE_S):
                await self._deliver(alert)

    async def _deliver(self, alert: Alert) -> None:
        if (failure := await self._post(alert)) is None:
            telemetry.BUDGET_WEBHOOKS.labels("sent").inc()
            await self._alerts.sent(alert)
            return
        gives_up = alert.tries + 1 >= self._tries
        telemetry.BUDGET_WEBHOOKS.labels("given_up" if gives_up else "failed").inc()
        self._logger.warning("webhook not told", alert_id=alert.id, reason=failure, gives_up=gives_up)
        again_s = min(_LONGEST_S, _FIRST_S * 2**alert.tries)
        await self._alerts.not_sent(alert, again_in_s=None if gives_up else again_s)

    async def _post(self, alert: Alert) -> str | None:
        """Why it was not taken. The address is not in it: it may be a secret."""
        body = json.dumps(message(alert)).encode()
        moment = str(int(self._clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "X-Greenroom-Delivery": alert.id,
            "X-Greenroom-Timestamp": moment,
        }
        if self._secret is not None:
            headers["X-Greenroom-Signature"] = signature(self._secret, moment, body)
        try:
            answer = await self._client.post(self._url, content=body, headers=headers, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        return None if answer.is_success else f"HTTP {answer.status_code}"


def signature(secret: str, moment: str, body: bytes) -> str:
    digest = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


def message(alert: Alert) -> dict[str, Any]:
    """What Slack shows, and beside it the same for programs."""
    window, resets = window_of(alert.bucket)[1], window_end(alert.bucket)
    consequence = _CONSEQUENCES[alert.severity].format(user=alert.user_id)
    shown = {
        "User": alert.user_id,
        "Window": window,
        "Spent": format_usd(alert.spent_micros),
        "Limit": "none" if alert.limit_micros is None else format_usd(alert.limit_micros),
        "Window ends": "never" if resets is None else rfc3339(resets),
        "Consequence": consequence,
    }
    return {
        "text": f"{alert.severity.capitalize()}: {alert.user_id} has spent {format_usd(alert.spent_micros)} this"
        f" {window}, past {format_usd(alert.threshold_micros)}. {consequence}",
        "attachments": [
            {
                "color": _COLOURS[alert.severity],
                "fields": [{"title": title, "value": value, "short": True} for title, value in shown.items()],
            }
        ],
        "type": "budget.reached",
        "id": alert.id,
        "severity": alert.severity,
        "user_id": alert.user_id,
        "session_id": alert.session_id,
        "fired_at": rfc3339(alert.fired_at),
        "resets_at": None if resets is None else rfc3339(resets),
        **told(alert),
    }
