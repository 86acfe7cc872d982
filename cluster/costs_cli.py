"""`greenroom costs`: how it is called. What it does is in `costs.py`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class PeriodName(StrEnum):
    """As the API names them."""

    daily = "daily"
    weekly = "weekly"
    monthly = "monthly"


class GroupName(StrEnum):
    """As the API names them."""

    user = "user"
    model = "model"
    tool = "tool"
    session = "session"


def costs(
    home: Annotated[
        Path | None,
        typer.Option(help="Home folder.  [default: $GREENROOM_HOME or ~/.greenroom]", show_default=False),
    ] = None,
    period: Annotated[PeriodName, typer.Option(help="How long a bar of the chart is, in UTC.")] = PeriodName.daily,
    group_by: Annotated[GroupName, typer.Option(help="What the table has a line for.")] = GroupName.model,
    since: Annotated[
        str | None,
        typer.Option(
            help="An age such as 7d or 12h, or a date.  [default: 30 days, 12 weeks or 12 months]", show_default=False
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only this user, with the budgets.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Lines; the rest is one more.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /api/v1/costs answers.")] = False,
    csv: Annotated[
        Path | None, typer.Option(help="Write a line for each group and period as CSV; - prints it.")
    ] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the same as Parquet.")] = None,
) -> None:
    """Show what was spent, by whom, on what, and when, and what would have cost less.

    Reads the database of the settings and writes nothing, beside a running Greenroom or without one; so it is for those
    who operate it, and shows all users. Times are UTC and widened to whole periods.

    A model call whose cost nobody told is counted as unknown and never as 0. What the output
    of a tool takes of later prompts is an estimate, and said to be one.

    `greenroom costs --group-by user --period monthly` is the bill by user, `greenroom costs --since 7d --csv week.csv`
    a table for a spreadsheet.

    Exit code: 0 it was shown, 2 it cannot be read or written.
    """
    from . import costs as report  # noqa: PLC0415 - as in cli.py

    asked = report.Wanted(home, period.value, group_by.value, since, user, limit)
    raise typer.Exit(report.run(asked, as_json=as_json, csv=csv, parquet=parquet))
