"""A cost report on a terminal: a table, a chart of its periods, budgets and advice."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from actors.agent.cost_reports import Report
from actors.core.money import format_usd
from actors.ledger.gauges import Gauge
from actors.ledger.sums import Slice, Sums
from serve_app.cost_export import OTHERS

_BAR = 40
_GAUGE = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"


def show(console: Console, report: Report) -> None:
    span, total = report.span, report.costs.total
    who = "all users" if report.asked.user_id is None else report.asked.user_id
    console.print(f"[bold]Costs of {escape(who)}[/], {span.begin:%Y-%m-%d} to before {span.end:%Y-%m-%d} (UTC)")
    if total == Sums():
        console.print("Nothing was used in this time.", style="dim")
        return
    console.print(f"{_total(total)}\n", highlight=False)
    console.print(_tools(report) if report.tools is not None else _groups(report))
    console.print("")
    console.print(_chart(report.costs.slices, report.asked.period))
    if report.gauges:
        console.print("")
        console.print(_gauges(report.gauges))
    for one in report.advice:
        console.print(f"\n[bold]→[/] {escape(one.text)}", highlight=False)


def _total(total: Sums) -> str:
    text = f"[bold]{cost_text(total)}[/] for {total.calls:,} model calls, {total.usage.total_tokens:,} tokens"
    if total.unknown:
        text += f"; the cost of {total.unknown:,} is not known"
        text += f", budgets were charged {format_usd(total.held)} for them" if total.held else ""
    return text


def cost_text(sums: Sums) -> str:
    """Money as people read it: a sum with unknown parts is a lower bound."""
    if not sums.unknown:
        return format_usd(sums.micros)
    return f"≥ {format_usd(sums.micros)}" if sums.micros else "not known"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _groups(report: Report) -> Table:
    total = report.costs.total
    table = _table(report.asked.group_by, "cost", "share", "calls", "unknown", "prompt", "cached", "completion")
    for group in report.costs.groups:
        sums, usage = group.sums, group.sums.usage
        share = f"{100 * sums.micros / total.micros:.0f} %" if total.micros else ""
        tokens = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        counts = (f"{count:,}" for count in (sums.calls, sums.unknown, *tokens))
        table.add_row(escape(OTHERS if group.key is None else group.key), cost_text(sums), share, *counts)
    return table


def _tools(report: Report) -> Table:
    assert report.tools is not None
    assert report.paid is not None
    paid = {group.key: group.sums for group in report.paid.groups}
    table = _table(
        "tool", "cost", "calls", "failed", "unknown", "seconds", "characters out", "later prompt tokens (estimate)"
    )
    for use in report.tools.tools:
        counts = (f"{count:,}" for count in (use.calls, use.failed, use.lost))
        seconds = f"{use.wall_ms / 1000:,.1f}"
        cost = cost_text(paid.get(use.name, Sums()))
        table.add_row(escape(use.name), cost, *counts, seconds, f"{use.output_chars:,}", f"{use.prompt_tokens:,}")
    if report.tools.cut:
        table.caption = "There were more calls than are looked at: these figures are too low."
    return table


def _chart(slices: tuple[Slice, ...], period: str) -> Table:
    """A bar for each period, up to the longest; those before the first call are left out."""
    first = next(at for at, one in enumerate(slices) if one.sums != Sums())
    most = max(one.sums.micros for one in slices)
    chart = Table(box=None, pad_edge=False, show_header=False)
    form = "%Y-%m" if period == "monthly" else "%Y-%m-%d"
    for one in slices[first:]:
        said = cost_text(one.sums) if one.sums != Sums() else ""
        chart.add_row(one.begin.strftime(form), f"[green]{bar(one.sums.micros, most, _BAR)}[/]", said)
    return chart


def bar(part: int, whole: int, width: int) -> str:
    """A bar of `width` characters for the whole, to an eighth of one; something is never shown as nothing."""
    eighths = 0 if not whole else max(round(8 * width * part / whole), int(part > 0))
    full, rest = divmod(min(eighths, 8 * width), 8)
    return "█" * full + _EIGHTHS[rest].strip()


def _gauges(gauges: tuple[Gauge, ...]) -> Table:
    table = _table("budget", "", "spent", "reserved", "limit", "resets")
    for gauge in gauges:
        used = gauge.spent + gauge.reserved
        filled = "" if gauge.limit is None else bar(min(used, gauge.limit), gauge.limit, _GAUGE).ljust(_GAUGE, "·")
        limit = "none" if gauge.limit is None else format_usd(gauge.limit)
        resets = "" if gauge.resets_at is None else f"{gauge.resets_at:%Y-%m-%d %H:%M}"
        flag = f" ({gauge.flag})" if gauge.flag else ""
        sums = (format_usd(gauge.spent), format_usd(gauge.reserved))
        table.add_row(f"{gauge.scope}, {gauge.window}{flag}", filled, *sums, limit, resets)
    return table
