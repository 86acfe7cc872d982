"""Cost reports as tables: a line for each group in each period, as CSV or Parquet."""

import csv
import importlib
import io
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from actors.agent.cost_reports import Report
from actors.core.clock import rfc3339
from actors.core.money import MICROS_PER_USD

Format: TypeAlias = Literal["csv", "parquet"]

MEDIA: dict[Format, str] = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}

OTHERS = "(others)"
"""What the groups are called that are not told by name."""

_MODEL_COLUMNS = (
    *("calls", "other_uses", "unknown_calls", "running_calls", "cost_micros", "cost_usd", "held_micros"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
)
_TOOL_COLUMNS = ("calls", "failed", "unknown", "wall_ms", "output_chars", "prompt_tokens_estimate", "cost_micros")


@dataclass(frozen=True, slots=True)
class Table:
    """Whole numbers, exact decimals, text and moments."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def table(report: Report) -> Table:
    """The lines of a report. Those of models, users and sessions sum up to its total."""
    lead = ("period_start", "period_end", report.asked.group_by)
    if report.tools is None:
        return Table((*lead, *_MODEL_COLUMNS), tuple(_model_rows(report)))
    assert report.paid is not None
    rows = [
        (
            *(begin, end, use.name, use.calls, use.failed, use.lost, use.wall_ms, use.output_chars, use.prompt_tokens),
            next((group.sums.micros for group in paid.groups if group.key == use.name), 0),
        )
        for begin, end, uses, paid in zip(
            report.span.begins, report.span.ends, report.tools.slices, report.paid.slices, strict=True
        )
        for use in uses
    ]
    return Table((*lead, *_TOOL_COLUMNS), tuple(rows))


def _model_rows(report: Report) -> list[tuple[Any, ...]]:
    return [
        (
            *(one.begin, one.end, OTHERS if group.key is None else group.key),
            *(group.sums.calls, group.sums.uses, group.sums.unknown, group.sums.running, group.sums.micros),
            *((Decimal(group.sums.micros) / MICROS_PER_USD).quantize(Decimal("0.000001")), group.sums.held),
            *(group.sums.usage.prompt_tokens, group.sums.usage.completion_tokens),
            *(group.sums.usage.cached_tokens, group.sums.usage.reasoning_tokens),
        )
        for one in report.costs.slices
        for group in one.groups
    ]


def exported(report: Report, form: Format) -> bytes:
    """The bytes of a file. Parquet takes a moment: call it from a thread."""
    made = table(report)
    return as_csv(made) if form == "csv" else as_parquet(made)


def file_name(report: Report, form: Format) -> str:
    asked = report.asked
    return f"greenroom-costs-{asked.group_by}-{asked.period}-{report.span.begin:%Y-%m-%d}.{form}"


def as_csv(made: Table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(made.columns)
    writer.writerows([_cell(value) for value in row] for row in made.rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    # A spreadsheet would run a name that begins like a formula, and names come from others.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def as_parquet(made: Table) -> bytes:
    # Arrow takes long to load and much memory, and few ask for it. It ships no types.
    pa: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    types: dict[str, Any] = {
        "period_start": pa.timestamp("us", tz="UTC"),
        "period_end": pa.timestamp("us", tz="UTC"),
        made.columns[2]: pa.string(),
        "cost_usd": pa.decimal128(24, 6),
    }
    schema = pa.schema([(name, types.get(name, pa.int64())) for name in made.columns])
    columns = {name: [row[at] for row in made.rows] for at, name in enumerate(made.columns)}
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=schema), sink)
    return sink.getvalue()
