"""`greenroom budget`: how it is called. What it does is in `budget.py`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from actors.core.settings import Settings

budget = typer.Typer(
    help="What users have spent and may spend, and the switch that stops one of them.\n\n"
    "Works on the database of the settings and the Redis of budgets, beside a running Greenroom or without one.",
    no_args_is_help=True,
)

User = Annotated[str, typer.Argument(help="Id of the user, e.g. user_admin.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the audit.")]
Home = Annotated[
    Path | None,
    typer.Option(help="Folder of databases and keys.  [default: $GREENROOM_HOME or ~/.greenroom]", show_default=False),
]


@budget.command()
def show(user: User, home: Home = None) -> None:
    """Say what a user has spent this hour, day and month, what is left, whether it is paused or suspended, and the
    thresholds that it reached last.

    Exit code: 0 told, 1 there is no such user, 3 the ledger does not answer.
    """
    from . import budget as budgets  # noqa: PLC0415 - as in cli.py

    raise typer.Exit(budgets.show(Console(), _settings(home), user))


@budget.command()
def suspend(user: User, reason: Reason = "", home: Home = None) -> None:
    """Refuse everything of a user that costs money, from the next model call on, until `greenroom budget resume`.

    Reading, exporting and deleting stay open to the user. A turn that runs ends at its next model call. Doing it again
    changes nothing.

    Exit code: 0 done, 1 there is no such user, 3 the ledger does not answer.
    """
    from . import budget as budgets  # noqa: PLC0415 - as in cli.py

    raise typer.Exit(budgets.switch(Console(), _settings(home), user, "suspended", reason=reason))


@budget.command()
def resume(user: User, reason: Reason = "", home: Home = None) -> None:
    """Let a suspended user go on, and end the pauses of this hour, day and month. The limits stay as they are.

    A threshold that was reached is not reached again in its window, so nothing suspends the user again until the next
    one: raise the limit or look after it.

    Exit code: 0 done, 1 there is no such user, 3 the ledger does not answer.
    """
    from . import budget as budgets  # noqa: PLC0415 - as in cli.py

    raise typer.Exit(budgets.switch(Console(), _settings(home), user, None, reason=reason))


def _settings(home: Path | None) -> "Settings":
    from .environment import WrongSettings, read_settings  # noqa: PLC0415 - as in cli.py

    try:
        return read_settings(home=home)
    except WrongSettings as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(1) from error
