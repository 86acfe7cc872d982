"""`greenroom exec` and `greenroom files`: how they are called. What they do is in `workspace.py`."""

from pathlib import Path
from typing import Annotated

import typer

files = typer.Typer(
    help="Files in the sandbox of a session: list, fetch, put and remove them.\n\n"
    "They are what its tools work on, under the same policy. They stay while the session keeps its sandbox.",
    no_args_is_help=True,
)

Session = Annotated[str, typer.Argument(help="Id of the session; `greenroom chat` and the chat page tell it.")]
At = Annotated[str, typer.Argument(help="Path in the workspace, e.g. data/table.csv.")]
Home = Annotated[
    Path | None,
    typer.Option(help="Home folder of the run.  [default: $GREENROOM_HOME or ~/.greenroom]", show_default=False),
]
Url = Annotated[str | None, typer.Option(help="Address of a server elsewhere; give its --key-file too.")]
KeyFile = Annotated[Path | None, typer.Option(help="File with the API key for --url.")]


def execute(
    session: Session,
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after `--`.")],
    python: Annotated[bool, typer.Option("--python", help="It is the source of a Python program.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Kill it after so many seconds.", show_default=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="It is Python for the session's interpreter, whose variables stay.")
    ] = False,
    usage: Annotated[bool, typer.Option("--usage", help="Say at the end how it ended and what it took.")] = False,
    home: Home = None,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Run a command in the sandbox of a session, beside its model, and show what it prints.

    Several words are one command with its arguments, as they are: `greenroom exec sess_1 -- wc -l "my file.txt"`. A
    single one is a command line of a shell: `greenroom exec sess_1 -- "sort x | uniq -c"`. The model is not told of it.
    Ctrl-C kills it.

    Exit code: the command's own; 124 it ran too long, 126 the policy does not allow it, 1 it ended in another bad way.
    """
    from . import workspace  # noqa: PLC0415 - as in cli.py

    door = workspace.Door(home, url, key_file)
    manner = workspace.Manner(is_python=python, keep=keep, timeout_s=timeout, usage=usage)
    raise typer.Exit(workspace.execute(door, session, command, manner))


@files.command("ls")
def list_files(
    session: Session,
    path: Annotated[str, typer.Argument(help="A folder; by default all of the workspace.")] = "",
    home: Home = None,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """List files and folders with their sizes, and all that is below. Says when that is not all."""
    from . import workspace  # noqa: PLC0415 - as in cli.py

    raise typer.Exit(workspace.list_files(workspace.Door(home, url, key_file), session, path))


@files.command("get")
def get(
    session: Session,
    path: At,
    to: Annotated[
        Path | None,
        typer.Argument(
            help="Where to write it; `-` prints it.  [default: its own name, in this folder]", show_default=False
        ),
    ] = None,
    home: Home = None,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Fetch a file. One that is here already is replaced only when you name it."""
    from . import workspace  # noqa: PLC0415 - as in cli.py

    raise typer.Exit(workspace.get(workspace.Door(home, url, key_file), session, path, to))


@files.command("put")
def put(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A file of this machine; `-` is standard input.")],
    path: Annotated[
        str | None,
        typer.Argument(help="Path in the workspace; folders are made.  [default: its own name]", show_default=False),
    ] = None,
    home: Home = None,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Put a file into the workspace, in place of one of that path."""
    from . import workspace  # noqa: PLC0415 - as in cli.py

    raise typer.Exit(workspace.put(workspace.Door(home, url, key_file), session, file, path))


@files.command("rm")
def remove(
    session: Session,
    path: At,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Of a folder also all that is in it.")] = False,
    home: Home = None,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Remove a file, or an empty folder."""
    from . import workspace  # noqa: PLC0415 - as in cli.py

    raise typer.Exit(workspace.remove(workspace.Door(home, url, key_file), session, path, recursive=recursive))
