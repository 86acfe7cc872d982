"""What cost reports and estimates are made of."""

from ..agent.book import SessionBook
from ..agent.cost_reports import CostReports
from ..agent.estimates import Estimates
from ..agent.payloads import Payloads
from ..agent.tool_uses import ToolBook
from ..core.clock import Clock
from ..core.settings import Settings
from ..ledger.costs import CostBook
from ..ledger.gauges import Gauges
from ..ledger.model_uses import ModelUses
from ..ledger.sql import SqlLedger
from ..llm.base import LLM
from ..security.cipher import ClearText
from ..store.database import Database
from .ledger import user_limits
from .sessions import make_prices, make_toolbox


def cost_reports(settings: Settings, database: Database, book: SessionBook, llm: LLM, clock: Clock) -> CostReports:
    """Reads SQL alone, also where a Redis admits: what it lacks of that are holds that were not dispatched yet."""
    uses = ModelUses(database)
    gauges = Gauges(SqlLedger(database), user_limits(settings), clock)
    estimates = Estimates(
        book,
        uses,
        gauges,
        make_prices(settings, llm, clock),
        llm,
        tools=make_toolbox(settings, clock).specs,
        max_completion_tokens=settings.completion_max_tokens,
        default_system=settings.system_prompt,
    )
    tools = ToolBook(database, Payloads(ClearText()))
    return CostReports(CostBook(database), tools, uses, gauges, estimates, llm, clock)
