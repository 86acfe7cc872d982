"""The HTTP API as Python: `Client` and `AsyncClient`, twins over one description of each call.

Answers are the API's JSON objects, as they came; errors are the classes of `actors.core.errors`. A call whose
connection breaks is repeated under its Idempotency-Key, so that it is done once; a stream that breaks goes on
after the last event seen, so that every event is yielded once.
"""

from collections.abc import AsyncGenerator, Generator
from typing import Literal, Self, Unpack

import httpx

from . import calls
from .calls import (
    ApprovalFilter,
    Call,
    ChatOptions,
    ForkOptions,
    Item,
    Json,
    MessageOptions,
    SessionOptions,
    order,
    path_of,
    read,
)
from .cost_calls import CostOptions, EstimateOptions, costs, estimate
from .exchange import AsyncExchange, Exchange
from .workspace_client import AsyncWorkspaceCalls, WorkspaceCalls


class Client(WorkspaceCalls):
    """Blocking client; use it as a context manager or call `close`. Safe to share between threads."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        max_resumes: int = 8,
        resume_delay_s: float = 0.25,
    ) -> None:
        self._exchange = Exchange(
            base_url, api_key, transport=transport, max_resumes=max_resumes, resume_delay_s=resume_delay_s
        )

    def chat(self, message: str, **options: Unpack[ChatOptions]) -> Json:
        """Say something and wait for the whole answer.

        A turn that takes too long, or that waits for a person, is answered by its `turn_id` and `status`.
        """
        return self._exchange.send(calls.chat(message, options))

    def stream(self, message: str, **options: Unpack[ChatOptions]) -> Generator[Item, None, None]:
        """Say something and follow the turn to its end, over broken connections too."""
        return self._exchange.follow(calls.chat_stream(message, options), one_turn=True)

    def send(self, session_id: str, message: str, **options: Unpack[MessageOptions]) -> Json:
        """Say something and do not wait: the answer is a receipt with `turn_id`, `message_id` and `position`."""
        return self._exchange.send(calls.send(session_id, message, options))

    def follow(self, session_id: str, *, after: int = 0) -> Generator[Item, None, None]:
        """Every event of the session after number `after`, and what comes. Ends when closed."""
        return self._exchange.follow(calls.session_stream(session_id, after), one_turn=False)

    # Sessions ----------------------------------------------------------------------------------------

    def sessions(self, *, limit: int = 20, after: str | None = None) -> Json:
        return self._exchange.send(read("/api/v1/sessions", limit=limit, after=after))

    def create_session(self, **options: Unpack[SessionOptions]) -> Json:
        return self._exchange.send(calls.create_session(options))

    def session(self, session_id: str) -> Json:
        return self._exchange.send(read(path_of("sessions", session_id)))

    def delete_session(self, session_id: str) -> None:
        self._exchange.send(Call("DELETE", path_of("sessions", session_id)))

    def events(self, session_id: str, *, after: int = 0, limit: int = 100) -> Json:
        return self._exchange.send(read(path_of("sessions", session_id, "/events"), after=after, limit=limit))

    def pause(self, session_id: str) -> Json:
        """Begin no further step; the one that runs ends. Messages are taken and wait."""
        return self._exchange.send(order("sessions", session_id, "pause"))

    def resume(self, session_id: str) -> Json:
        return self._exchange.send(order("sessions", session_id, "resume"))

    def interrupt(self, session_id: str) -> Json:
        """Cancel the turn that runs, if there is one; returns when it has stopped. What waits goes on."""
        return self._exchange.send(order("sessions", session_id, "interrupt"))

    def fork(self, session_id: str, **options: Unpack[ForkOptions]) -> Json:
        """A session that begins with the past of this one, and goes its own way."""
        return self._exchange.send(calls.fork(session_id, options))

    def inbox(self, session_id: str) -> Json:
        """Messages whose turns have not begun."""
        return self._exchange.send(read(path_of("sessions", session_id, "/inbox")))

    def edit(self, session_id: str, message_id: str, message: str) -> Json:
        """Change what a message says whose turn has not begun."""
        return self._exchange.send(calls.inbox_entry(session_id, message_id, message))

    def withdraw(self, session_id: str, message_id: str) -> None:
        """Take a message back whose turn has not begun."""
        self._exchange.send(calls.inbox_entry(session_id, message_id, None))

    # Turns and approvals -----------------------------------------------------------------------------

    def turn(self, turn_id: str) -> Json:
        return self._exchange.send(read(path_of("turns", turn_id)))

    def turn_events(self, turn_id: str, *, after: int = 0, limit: int = 100) -> Json:
        """A page of the events of one turn; they keep their numbers in the session."""
        return self._exchange.send(read(path_of("turns", turn_id, "/events"), after=after, limit=limit))

    def follow_turn(self, turn_id: str, *, after: int = 0) -> Generator[Item, None, None]:
        """The events of one turn after number `after`, to its end."""
        return self._exchange.follow(calls.turn_stream(turn_id, after), one_turn=True)

    def cancel(self, turn_id: str) -> Json:
        """Stop the turn; returns when it has stopped. Repeating it is harmless."""
        return self._exchange.send(order("turns", turn_id, "cancel"))

    def approvals(self, **options: Unpack[ApprovalFilter]) -> Json:
        """What people are asked, newest first; `status="pending"` for what nobody has decided."""
        return self._exchange.send(calls.approvals(options))

    def approval(self, approval_id: str) -> Json:
        return self._exchange.send(read(path_of("approvals", approval_id)))

    def resolve(self, approval_id: str, decision: Literal["approve", "deny"], *, reason: str | None = None) -> Json:
        """Decide on a tool call that waits. Deciding the same again is harmless."""
        return self._exchange.send(calls.resolve(approval_id, decision, reason))

    # The service -------------------------------------------------------------------------------------

    def costs(self, **options: Unpack[CostOptions]) -> Json:
        """Your costs by model, tool, session or user; `everyone` needs the scope `admin`."""
        return self._exchange.send(costs(options))

    def estimate(self, message: str, **options: Unpack[EstimateOptions]) -> Json:
        """What the first model call of a message costs at most and probably. Sends nothing to a model."""
        return self._exchange.send(estimate(message, options))

    def models(self) -> Json:
        return self._exchange.send(read("/api/v1/models"))

    def health(self) -> Json:
        return calls.report_of(self._exchange.respond(read("/health")))

    def ready(self) -> Json:
        return calls.report_of(self._exchange.respond(read("/ready")))

    def close(self) -> None:
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(AsyncWorkspaceCalls):
    """The same for asyncio. Closing an iterator of `stream` ends the connection, not the turn: `cancel` does."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        max_resumes: int = 8,
        resume_delay_s: float = 0.25,
    ) -> None:
        self._exchange = AsyncExchange(
            base_url, api_key, transport=transport, max_resumes=max_resumes, resume_delay_s=resume_delay_s
        )

    async def chat(self, message: str, **options: Unpack[ChatOptions]) -> Json:
        return await self._exchange.send(calls.chat(message, options))

    def stream(self, message: str, **options: Unpack[ChatOptions]) -> AsyncGenerator[Item, None]:
        return self._exchange.follow(calls.chat_stream(message, options), one_turn=True)

    async def send(self, session_id: str, message: str, **options: Unpack[MessageOptions]) -> Json:
        return await self._exchange.send(calls.send(session_id, message, options))

    def follow(self, session_id: str, *, after: int = 0) -> AsyncGenerator[Item, None]:
        return self._exchange.follow(calls.session_stream(session_id, after), one_turn=False)

    # Sessions ----------------------------------------------------------------------------------------

    async def sessions(self, *, limit: int = 20, after: str | None = None) -> Json:
        return await self._exchange.send(read("/api/v1/sessions", limit=limit, after=after))

    async def create_session(self, **options: Unpack[SessionOptions]) -> Json:
        return await self._exchange.send(calls.create_session(options))

    async def session(self, session_id: str) -> Json:
        return await self._exchange.send(read(path_of("sessions", session_id)))

    async def delete_session(self, session_id: str) -> None:
        await self._exchange.send(Call("DELETE", path_of("sessions", session_id)))

    async def events(self, session_id: str, *, after: int = 0, limit: int = 100) -> Json:
        return await self._exchange.send(read(path_of("sessions", session_id, "/events"), after=after, limit=limit))

    async def pause(self, session_id: str) -> Json:
        return await self._exchange.send(order("sessions", session_id, "pause"))

    async def resume(self, session_id: str) -> Json:
        return await self._exchange.send(order("sessions", session_id, "resume"))

    async def interrupt(self, session_id: str) -> Json:
        return await self._exchange.send(order("sessions", session_id, "interrupt"))

    async def fork(self, session_id: str, **options: Unpack[ForkOptions]) -> Json:
        return await self._exchange.send(calls.fork(session_id, options))

    async def inbox(self, session_id: str) -> Json:
        return await self._exchange.send(read(path_of("sessions", session_id, "/inbox")))

    async def edit(self, session_id: str, message_id: str, message: str) -> Json:
        return await self._exchange.send(calls.inbox_entry(session_id, message_id, message))

    async def withdraw(self, session_id: str, message_id: str) -> None:
        await self._exchange.send(calls.inbox_entry(session_id, message_id, None))

    # Turns and approvals -----------------------------------------------------------------------------

    async def turn(self, turn_id: str) -> Json:
        return await self._exchange.send(read(path_of("turns", turn_id)))

    async def turn_events(self, turn_id: str, *, after: int = 0, limit: int = 100) -> Json:
        return await self._exchange.send(read(path_of("turns", turn_id, "/events"), after=after, limit=limit))

    def follow_turn(self, turn_id: str, *, after: int = 0) -> AsyncGenerator[Item, None]:
        return self._exchange.follow(calls.turn_stream(turn_id, after), one_turn=True)

    async def cancel(self, turn_id: str) -> Json:
        return await self._exchange.send(order("turns", turn_id, "cancel"))

    async def approvals(self, **options: Unpack[ApprovalFilter]) -> Json:
        return await self._exchange.send(calls.approvals(options))

    async def approval(self, approval_id: str) -> Json:
        return await self._exchange.send(read(path_of("approvals", approval_id)))

    async def resolve(
        self, approval_id: str, decision: Literal["approve", "deny"], *, reason: str | None = None
    ) -> Json:
        return await self._exchange.send(calls.resolve(approval_id, decision, reason))

    # The service -------------------------------------------------------------------------------------

    async def costs(self, **options: Unpack[CostOptions]) -> Json:
        return await self._exchange.send(costs(options))

    async def estimate(self, message: str, **options: Unpack[EstimateOptions]) -> Json:
        return await self._exchange.send(estimate(message, options))

    async def models(self) -> Json:
        return await self._exchange.send(read("/api/v1/models"))

    async def health(self) -> Json:
        return calls.report_of(await self._exchange.respond(read("/health")))

    async def ready(self) -> Json:
        return calls.report_of(await self._exchange.respond(read("/ready")))

    async def aclose(self) -> None:
        await self._exchange.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
