"""The `greenroom` command. What a subcommand needs is loaded when it runs, so that `--help` is quick."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from . import costs_cli, workspace_cli
from .budget_cli import budget
from .model_server import model_server

if TYPE_CHECKING:
    from actors.core.settings import Settings

app = typer.Typer(
    name="greenroom",
    help="Run Greenroom, a runtime for LLM agents, on this machine.\n\n"
    "`greenroom up` starts it and prints where everything is. `greenroom chat` talks to it from the terminal.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

sandbox = typer.Typer(help="Make ready and try out what tool code runs in.", no_args_is_help=True)
app.add_typer(sandbox, name="sandbox")
app.command("exec")(workspace_cli.execute)
app.add_typer(workspace_cli.files, name="files")
app.add_typer(budget, name="budget")
app.command("costs")(costs_cli.costs)
app.command("model-server")(model_server)

Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder of databases, keys and logs.  [default: $GREENROOM_HOME or ~/.greenroom]", show_default=False
    ),
]
Host = Annotated[
    str | None,
    typer.Option(help="Address; 0.0.0.0 lets other machines in.  [default: 127.0.0.1]", show_default=False),
]
Port = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Port of chat page and API.  [default: 8000]", show_default=False),
]
DashboardPort = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, help="Port of Ray's dashboard.  [default: 8265 or the next free one]", show_default=False
    ),
]


@app.command()
def up(
    home: Home = None,
    host: Host = None,
    port: Port = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready, and let it run on.")] = False,
    dashboard: Annotated[bool, typer.Option(help="Run Ray's dashboard; without it about 200 MB are saved.")] = True,
    dashboard_port: DashboardPort = None,
    timings: Annotated[bool, typer.Option("--timings", help="Say how long each phase of the start took.")] = False,
) -> None:
    """Start Greenroom, in the foreground unless `--detach` is given.

    Nothing has to be installed or configured: without an API key it runs the offline demo model. Set
    `OPENROUTER_API_KEY`, or `GREENROOM_LLM_BASE_URL` for an OpenAI-compatible server, to talk to a real
    one. Every setting is a `GREENROOM_…` variable.
    """
    from . import launch  # noqa: PLC0415 - see the module's docstring
    from .report import print_report  # noqa: PLC0415 - see the module's docstring

    console = Console()
    settings = _settings(home=home, host=host, port=port, dashboard_port=dashboard_port)
    try:
        ready = launch.prepare(settings, dashboard=dashboard, timings=timings)
        if ready.note:
            console.print(ready.note, style="yellow", soft_wrap=True)
        if not detach:
            launch.run_here(ready)
        with console.status("Starting …"):
            state = launch.run_detached(ready)
    except launch.CannotStart as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("Interrupted; what was started has been stopped.", code=130)
    print_report(console, state, timings=timings)
    console.print("Stop it with `greenroom down`.", style="dim")


@app.command()
def down(
    home: Home = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for running turns and a clean stop.")] = 60.0,
) -> None:
    """Stop what `greenroom up` started, and nothing else. Running turns get some seconds to end.

    Doing it twice is harmless. A turn that did not end goes on at the next start.
    """
    from . import stop  # noqa: PLC0415 - see the module's docstring

    typer.echo(stop.stop(_settings(home=home).home_dir, timeout_s=timeout))


@app.command()
def status(home: Home = None) -> None:
    """Say what runs, where, and how it feels.

    Exit code: 0 runs and is ready, 1 runs but is not ready, 3 does not run.
    """
    from . import status as status_report  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(status_report.show(Console(), _settings(home=home)))


@app.command()
def doctor(home: Home = None) -> None:
    """Check what Greenroom needs on this machine, and name the fix of what is missing.

    Exit code 1 when something required is missing.
    """
    from . import doctor as examination  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(examination.show(Console(), _settings(home=home)))


@app.command()
def chat(
    home: Home = None,
    session: Annotated[str | None, typer.Option(help="Go on in this session instead of a new one.")] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Say this, print the answer, and leave.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of this session; see `GET /api/v1/models`.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of a server elsewhere; give its --key-file too.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="File with the API key for --url.")] = None,
) -> None:
    """Talk to an agent. Shows the tools it uses and what it costs.

    Ctrl-C cancels the turn that runs, Ctrl-D leaves.
    """
    from . import chat as conversation  # noqa: PLC0415 - see the module's docstring

    home_dir = _settings(home=home).home_dir
    raise typer.Exit(
        conversation.run(home_dir, session_id=session, message=message, model=model, url=url, key_file=key_file)
    )


@app.command()
def verify(
    home: Home = None,
    history: Annotated[bool, typer.Option("--history", help="Check the journal, the ledger and client logs.")] = False,
    since: Annotated[
        str | None, typer.Option(help="Only sessions written to since then: an age such as 7d or 12h, or a date.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="Only this session.")] = None,
    settled: Annotated[
        bool,
        typer.Option(
            "--settled/--no-settled",
            help="The cluster is at rest: a turn that has not ended is a violation, unless it waits for a person.",
        ),
    ] = False,
    client_log: Annotated[
        list[Path] | None, typer.Option(help="What clients sent and saw, as JSON lines; may be given again.")
    ] = None,
    cancel_within: Annotated[float, typer.Option(min=0, help="Seconds in which a cancel has to be answered.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every violation.")] = False,
) -> None:
    """Check that the promises of the README were kept, by what the database holds.

    Reads the database of the settings and writes nothing, beside a running Greenroom or without one. Numbers without
    gaps, one turn at a time with one end each, tools at most once, conversations that providers accept, and a ledger
    that adds up; with `--client-log` also that nothing that was answered is lost, and what readers saw.

    Exit code: 0 every promise was kept, 1 there are violations, 2 the history cannot be read.
    """
    if not history:
        _fail("Say what to verify: `greenroom verify --history`.", code=2)
    from .verify import command  # noqa: PLC0415 - see the module's docstring

    scope = command.Scope(since, session, settled, tuple(client_log or ()), cancel_within)
    raise typer.Exit(command.run(Console(), _settings(home=home, wrong=2), scope, as_json=as_json))


@app.command("drain-node")
def drain_node(
    within: Annotated[float, typer.Option(min=0, help="Seconds until the machine leaves.")] = 120.0,
    address: Annotated[str, typer.Option(help="Ray's address; by default of the node that runs here.")] = "auto",
    node_id: Annotated[
        str | None, typer.Option(help="Ray's id of another node than the one that runs here.", show_default=False)
    ] = None,
    home: Home = None,
) -> None:
    """Empty this machine before it leaves the cluster, as the preStop hook of a pod does.

    It gets no new sessions. Turns that run there may end, and what does not end in time goes on elsewhere.

    Exit code: 0 the machine is empty, 1 it is not (its turns go on elsewhere when it ends), 3 Ray does not answer.
    """
    from . import drain  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(drain.run(Console(), _settings(home=home), address=address, node_id=node_id, within_s=within))


Backend = Annotated[
    str | None,
    typer.Option(help="bubblewrap, docker, gvisor or auto.  [default: $GREENROOM_SANDBOX]", show_default=False),
]


@sandbox.command()
def build(home: Home = None, backend: Backend = None) -> None:
    """Build what sandboxes are made from: the root filesystem, and for docker its image.

    Nothing is downloaded: it is made of this machine's Python and its everyday programs, and found again by a hash of
    them, so a second time takes a moment. Without this the first start does it.

    Exit code 1 when it cannot be built; what is missing is named with its fix.
    """
    from . import sandbox as sandboxes  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(sandboxes.build(Console(), _settings(home=home, sandbox=backend)))


@sandbox.command()
def probe(home: Home = None, backend: Backend = None) -> None:
    """Run a canary in a sandbox, and say what isolation and which limits it found.

    The canary is a program that tries what no sandbox may allow.

    Exit code 1 when the level that the settings ask for is not reached; what is missing is named with its fix.
    """
    from . import sandbox as sandboxes  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(sandboxes.probe(Console(), _settings(home=home, sandbox=backend)))


@app.command()
def deploy(
    replicas: Annotated[int, typer.Option(min=1, help="Processes that answer HTTP, over the machines.")] = 2,
    resource: Annotated[
        str | None, typer.Option(help="Only on machines that offer this custom resource of Ray, one for each process.")
    ] = None,
    within: Annotated[float, typer.Option(min=1, help="Seconds until it has to be ready.")] = 300.0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Stop the actors first, so that they have these settings and this code.")
    ] = False,
    address: Annotated[str, typer.Option(help="Ray's address; by default of the node that runs here.")] = "auto",
    home: Home = None,
) -> None:
    """Put Greenroom on the Ray cluster of several machines that this one belongs to.

    Brings the database to this version's schema, makes the admin's key, starts the actors, and deploys the HTTP
    application. Doing it again is harmless: what is there already is kept.

    Exit code: 0 it runs and is ready, 1 it does not, 3 Ray does not answer.
    """
    from . import deploy as deployment  # noqa: PLC0415 - see the module's docstring

    settings = _settings(home=home)
    raise typer.Exit(
        deployment.run(
            Console(),
            settings,
            address=address,
            replicas=replicas,
            resource=resource,
            restart=restart,
            within_s=within,
        )
    )


@app.command()
def env(home: Home = None) -> None:
    """Print the variables that let `ray job submit`, and scripts, reach the running cluster.

    Use it as `eval "$(greenroom env)"`.
    """
    from . import connection  # noqa: PLC0415 - see the module's docstring

    try:
        for line in connection.exports(_settings(home=home).home_dir):
            typer.echo(line)
    except connection.NotRunning as error:
        _fail(str(error), code=3)


def _settings(*, wrong: int = 1, **given: object) -> "Settings":
    """`wrong` is the exit code when they are."""
    from .environment import WrongSettings, read_settings  # noqa: PLC0415 - see the module's docstring

    try:
        return read_settings(**given)
    except WrongSettings as error:
        _fail(str(error), code=wrong)


def _fail(message: str, *, code: int = 1) -> NoReturn:
    typer.secho(message, err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
    raise typer.Exit(code)


def main() -> None:
    app()
