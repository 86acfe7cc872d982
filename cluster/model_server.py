"""The command line of `greenroom model-server`. What it does is in `scripted_server.py`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def model_server(
    script: Annotated[Path | None, typer.Option(help="What it says, as TOML or JSON; see below.")] = None,
    fault_rate: Annotated[
        float, typer.Option(min=0, max=1, help="So many of all requests fail in a way that real servers do.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Which of them, and how; the same seed is the same run.")] = 0,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one.")] = 0,
    fixtures: Annotated[bool, typer.Option("--fixtures", help="List what a script can name, and leave.")] = False,
) -> None:
    """Run a scripted OpenRouter, to try any client against it: its answers, its errors, its broken connections.

    Prints its base URL, and at the end (Ctrl-C) its bill as JSON: calls, tokens, cost. `GET /_bill` is the same at any
    time, `GET /v1/generation?id=…` the record of one answer. To point Greenroom at it:

    `GREENROOM_LLM_BASE_URL=<url> GREENROOM_MODEL=scripted greenroom up`

    Without a script it says hello. A user message that is JSON is a script for itself: `{"fixture": "error_chunk"}`,
    `{"reply": {"text": ["a", "b"], "gap_s": 0.5}}`. A script in TOML, with every kind of entry:

    ```toml
    models = ["scripted"]                 # any other name is 404

    [[rules]]
    marker = "weather"                    # in the last user message
    replies = [
      { tool_calls = [{ name = "get_weather", arguments = { city = "Bonn" } }] },
      { text = ["It ", "rains."], gap_s = 0.1 },
    ]

    [[rules]]
    marker = "busy"
    by = "call"                           # each request takes the next reply
    replies = [{ fixture = "rate_limited_for" }, { status = 503, body = { error = { message = "no" } } }]

    [otherwise]
    text = ["Hello."]
    cost = 0.0001
    ```

    Members of a reply: text, reasoning, tool_calls, finish_reason, model, provider, completion_tokens, cost, delay_s,
    gap_s, cut_after, ending (done, eof, hang, reset, comments), raw, streamed, status, headers, body.
    """
    from . import scripted_server  # noqa: PLC0415 - `--help` of the whole command must be quick

    if fixtures:
        scripted_server.show_fixtures(Console())
        return
    try:
        made = scripted_server.make_app(script, fault_rate=fault_rate, seed=seed)
        scripted_server.run(made, host=host, port=port)
    except scripted_server.WrongScript as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"{host}:{port} cannot be had: {error}", err=True)
        raise typer.Exit(1) from None
