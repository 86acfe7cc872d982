"""Who reacts to thresholds of budgets, and who tells operators of them."""

from collections.abc import Awaitable, Callable

import httpx

from ..agent.reactions import Reactions
from ..agent.webhook import Webhook
from ..core.clock import Clock
from ..core.settings import Settings, read_secret
from ..ledger.alerts import AlertBook, CatchUp
from ..ledger.base import Accounts
from ..security.audit import SqlAudit
from ..security.cipher import ClearText
from ..store.database import Database
from .ledger import watch


def reactions(settings: Settings, accounts: Accounts, database: Database, clock: Clock) -> Reactions:
    return Reactions(
        accounts,
        AlertBook(database, clock),
        SqlAudit(database, ClearText()),
        clock=clock,
        tells=settings.budget_webhook_url is not None,
    )


def alert_rounds(
    settings: Settings, ledger: Accounts, database: Database, client: httpx.AsyncClient, clock: Clock
) -> dict[str, Callable[[], Awaitable[object]]]:
    """What the directory's process does again and again, by name. `client` tells the webhook."""
    rounds: dict[str, Callable[[], Awaitable[object]]] = {
        "thresholds": CatchUp(watch(settings, clock), database, clock).round,
        "reactions": reactions(settings, ledger, database, clock).round,
    }
    if settings.budget_webhook_url is not None:
        rounds["webhook"] = Webhook(
            AlertBook(database, clock),
            client,
            settings.budget_webhook_url,
            secret=read_secret(settings.budget_webhook_secret_env),
            tries=settings.budget_webhook_tries,
            clock=clock,
        ).round
    return rounds
