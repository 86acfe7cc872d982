"""The scripted model server on a port: `python -m actors.testing.model_server --port 0 --script replies.json`.

Prints the base URL for a client as soon as it listens. The form of a script: `ScriptedModelApp.from_json`.
"""

import argparse
import asyncio
import json
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .asgi import AsgiApp, Receive, Scope, Send
from .model_app import ConnectionReset, ScriptedModelApp

_STOP_S = 10.0


class _OpenConnections(HttpToolsProtocol):
    """Knows the transport of each client, so that a script can tear its connection down."""

    by_client: ClassVar[dict[Any, asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio's base class is wider
        super().connection_made(transport)
        self.by_client[transport.get_extra_info("peername")] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.by_client.pop(self.transport.get_extra_info("peername"), None)
        super().connection_lost(exc)


def resetting(app: AsgiApp) -> AsgiApp:
    """Carries out the wish of a reply to tear the connection down."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ConnectionReset:
            _OpenConnections.by_client[tuple(scope["client"])].abort()

    return call


async def serve(app: ScriptedModelApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until SIGINT or SIGTERM. Prints the base URL once connections are accepted."""
    listener = socket.create_server((host, port), backlog=2048)
    config = _config(app)
    # The socket accepts from here on, and uvicorn takes over what waits in its backlog.
    sys.stdout.write(f"http://{host}:{listener.getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await uvicorn.Server(config).serve(sockets=[listener])


@contextmanager
def serving(app: ScriptedModelApp) -> Generator[str]:
    """Serve from a thread of this process, which can look into the app; gives the base URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(_config(app))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(_STOP_S)


def _config(app: ScriptedModelApp) -> uvicorn.Config:
    return uvicorn.Config(
        resetting(app), http=_OpenConnections, log_level="error", access_log=False, lifespan="off", ws="none"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m actors.testing.model_server", description="A scripted model server."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--script", type=Path, help="JSON file with replies and rules")
    arguments = parser.parse_args()
    script: dict[str, Any] = json.loads(arguments.script.read_text()) if arguments.script else {}
    app = ScriptedModelApp.from_json(script)
    with asyncio.Runner(loop_factory=uvicorn.Config(app).get_loop_factory()) as runner:
        runner.run(serve(app, host=arguments.host, port=arguments.port))


if __name__ == "__main__":
    main()
