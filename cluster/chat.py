"""`greenroom chat`: a conversation in the terminal, over the same HTTP API as everybody else."""

import asyncio
import signal
import sys
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory
from rich.console import Console

from actors.core.errors import GreenroomError
from serve_app.client import AsyncClient

from . import connection
from .transcript import Transcript

OK, FAILED, CANCELLED = 0, 1, 130


class Conversation:
    """A session and its turns, shown as they happen."""

    def __init__(
        self, client: AsyncClient, transcript: Transcript, *, session_id: str | None, model: str | None
    ) -> None:
        self._client = client
        self._transcript = transcript
        self._model = model
        self.session_id = session_id
        self._turn_id: str | None = None
        self._cancelling: asyncio.Task[None] | None = None
        self._saying: asyncio.Task[int] | None = None

    async def say(self, message: str) -> int:
        """One turn. Returns the exit code that it would give."""
        loop = asyncio.get_running_loop()
        self._turn_id, self._cancelling = None, None
        self._saying = asyncio.ensure_future(self._follow(message))
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            return await self._saying
        except asyncio.CancelledError:
            self._transcript.note("left; the turn may still run")
            return CANCELLED
        except GreenroomError as error:
            self._transcript.error(error.message)
            return FAILED
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _follow(self, message: str) -> int:
        ended_as = ""
        async for item in self._client.stream(message, session_id=self.session_id, model=self._model):
            self.session_id = item.data.get("session_id") or self.session_id
            self._turn_id = item.data.get("turn_id") or self._turn_id
            self._transcript.show(item)
            ended_as = item.type
        if self._cancelling is not None:
            await self._cancelling
        return {"turn.completed": OK, "turn.cancelled": CANCELLED}.get(ended_as, FAILED)

    def _interrupt(self) -> None:
        """Cancel the turn; the stream then ends by itself, with what was spent. A second time, leave it."""
        if self._turn_id is not None and self._cancelling is None:
            self._transcript.note("cancelling …")
            self._cancelling = asyncio.ensure_future(self._cancel(self._turn_id))
        elif self._saying is not None:
            self._saying.cancel()

    async def _cancel(self, turn_id: str) -> None:
        try:
            await self._client.cancel(turn_id)
        except GreenroomError as error:
            self._transcript.error(f"not cancelled: {error.message}")


def run(
    home: Path,
    *,
    session_id: str | None,
    message: str | None,
    model: str | None,
    url: str | None,
    key_file: Path | None,
) -> int:
    """Talk until the user leaves, or say one message. Returns the exit code."""
    transcript = Transcript(Console(), Console(stderr=True))
    try:
        client = _client(home, url, key_file)
    except (connection.NotRunning, OSError) as error:
        transcript.error(str(error))
        return FAILED
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read()
    return asyncio.run(_run(client, transcript, home, session_id=session_id, message=message, model=model))


def _client(home: Path, url: str | None, key_file: Path | None) -> AsyncClient:
    if url is not None:
        return AsyncClient(url, key_file.read_text().strip() if key_file else None)
    state = connection.find(home)
    return AsyncClient(state.url, connection.api_key(state))


async def _run(
    client: AsyncClient,
    transcript: Transcript,
    home: Path,
    *,
    session_id: str | None,
    message: str | None,
    model: str | None,
) -> int:
    async with client:
        conversation = Conversation(client, transcript, session_id=session_id, model=model)
        if message is not None:
            return await conversation.say(message)
        await _converse(conversation, transcript, home)
    return OK


async def _converse(conversation: Conversation, transcript: Transcript, home: Path) -> None:
    transcript.note("Ctrl-C cancels a turn, Ctrl-D leaves.")
    prompt: PromptSession[str] = PromptSession(history=FileHistory(str(home / "chat_history")))
    while True:
        try:
            message = await prompt.prompt_async("> ")
        except KeyboardInterrupt:
            continue  # as in a shell: the line is dropped
        except EOFError:
            break
        if message.strip():
            await conversation.say(message)
    if conversation.session_id is not None:
        transcript.note(f"Go on with: greenroom chat --session {conversation.session_id}")
