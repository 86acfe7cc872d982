"""The HTTP API as Python: `Client` and `AsyncClient`, twins over one description of each call.

Answers are the API's JSON objects, as they came; errors are the classes of `actors.core.errors`. A
stream that breaks goes on after the last event seen, so that every event is yielded once.
"""

import asyncio
import ipaddress
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Self, Unpack
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from actors.core.errors import GreenroomError, UnavailableError

from . import calls
from .calls import Call, ChatOptions, Item, Json, Place, SessionOptions

_ANSWER = httpx.Timeout(10.0, read=330.0)  # a JSON chat answers when its turn ends, within `chat_wait_s`
_STREAM = httpx.Timeout(10.0, read=30.0)  # the server sends a heartbeat every 10 s


class Client:
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
        self._http = httpx.Client(**_http_options(base_url, api_key), transport=transport)
        self._resuming: Json = {"max_resumes": max_resumes, "delay_s": resume_delay_s}

    def chat(self, message: str, **options: Unpack[ChatOptions]) -> Json:
        """Say something and wait for the whole answer. A turn that takes too long is answered by its `turn_id`."""
        return self._send(calls.chat(message, options))

    def stream(self, message: str, **options: Unpack[ChatOptions]) -> Generator[Item, None, None]:
        """Say something and follow the turn to its end, over broken connections too."""
        return self._follow(Place(calls.chat_stream(message, options), one_turn=True, **self._resuming))

    def follow(self, session_id: str, *, after: int = 0) -> Generator[Item, None, None]:
        """Every event of the session after number `after`, and what comes. Ends when closed."""
        return self._follow(Place(calls.session_stream(session_id, after), one_turn=False, **self._resuming))

    def sessions(self, *, limit: int = 20, after: str | None = None) -> Json:
        return self._send(calls.sessions(limit, after))

    def create_session(self, **options: Unpack[SessionOptions]) -> Json:
        return self._send(Call("POST", "/api/v1/sessions", body=calls.given(**options)))

    def session(self, session_id: str) -> Json:
        return self._send(Call("GET", calls.path_of("sessions", session_id)))

    def delete_session(self, session_id: str) -> None:
        self._send(Call("DELETE", calls.path_of("sessions", session_id)))

    def events(self, session_id: str, *, after: int = 0, limit: int = 100) -> Json:
        return self._send(calls.events(session_id, after, limit))

    def turn(self, turn_id: str) -> Json:
        return self._send(Call("GET", calls.path_of("turns", turn_id)))

    def cancel(self, turn_id: str) -> Json:
        """Stop the turn; returns when it has stopped. Repeating it is harmless."""
        return self._send(Call("POST", calls.path_of("turns", turn_id, "/cancel")))

    def models(self) -> Json:
        return self._send(Call("GET", "/api/v1/models"))

    def health(self) -> Json:
        return calls.report_of(self._exchange(Call("GET", "/health")))

    def ready(self) -> Json:
        return calls.report_of(self._exchange(Call("GET", "/ready")))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call) -> Json:
        return calls.answer_of(self._exchange(call))

    def _exchange(self, call: Call) -> httpx.Response:
        try:
            return self._http.send(_request(self._http, call))
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from error

    def _follow(self, place: Place) -> Generator[Item, None, None]:
        while not place.done:
            broke: Exception | None = None
            try:
                with closing(self._frames(place.call())) as frames:
                    for sse in frames:
                        if (item := place.take(sse)) is not None:
                            yield item
                        if place.done:
                            return
            except (httpx.TransportError, GreenroomError) as error:
                broke = error
            time.sleep(place.delay_after(broke))

    def _frames(self, call: Call) -> Generator[ServerSentEvent, None, None]:
        try:
            response = self._http.send(_request(self._http, call, _STREAM), stream=True)
        except httpx.ConnectError as error:
            raise _unreachable(self._http.base_url, error) from error
        try:
            if response.is_error:
                raise calls.error_from(response.status_code, response.read())
            yield from EventSource(response).iter_sse()
        except SSEError as error:
            raise GreenroomError(f"The server did not answer with a stream: {error}") from error
        finally:
            response.close()


class AsyncClient:
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
        self._http = httpx.AsyncClient(**_http_options(base_url, api_key), transport=transport)
        self._resuming: Json = {"max_resumes": max_resumes, "delay_s": resume_delay_s}

    async def chat(self, message: str, **options: Unpack[ChatOptions]) -> Json:
        return await self._send(calls.chat(message, options))

    def stream(self, message: str, **options: Unpack[ChatOptions]) -> AsyncGenerator[Item, None]:
        return self._follow(Place(calls.chat_stream(message, options), one_turn=True, **self._resuming))

    def follow(self, session_id: str, *, after: int = 0) -> AsyncGenerator[Item, None]:
        return self._follow(Place(calls.session_stream(session_id, after), one_turn=False, **self._resuming))

    async def sessions(self, *, limit: int = 20, after: str | None = None) -> Json:
        return await self._send(calls.sessions(limit, after))

    async def create_session(self, **options: Unpack[SessionOptions]) -> Json:
        return await self._send(Call("POST", "/api/v1/sessions", body=calls.given(**options)))

    async def session(self, session_id: str) -> Json:
        return await self._send(Call("GET", calls.path_of("sessions", session_id)))

    async def delete_session(self, session_id: str) -> None:
        await self._send(Call("DELETE", calls.path_of("sessions", session_id)))

    async def events(self, session_id: str, *, after: int = 0, limit: int = 100) -> Json:
        return await self._send(calls.events(session_id, after, limit))

    async def turn(self, turn_id: str) -> Json:
        return await self._send(Call("GET", calls.path_of("turns", turn_id)))

    async def cancel(self, turn_id: str) -> Json:
        return await self._send(Call("POST", calls.path_of("turns", turn_id, "/cancel")))

    async def models(self) -> Json:
        return await self._send(Call("GET", "/api/v1/models"))

    async def health(self) -> Json:
        return calls.report_of(await self._exchange(Call("GET", "/health")))

    async def ready(self) -> Json:
        return calls.report_of(await self._exchange(Call("GET", "/ready")))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _send(self, call: Call) -> Json:
        return calls.answer_of(await self._exchange(call))

    async def _exchange(self, call: Call) -> httpx.Response:
        try:
            return await self._http.send(_request(self._http, call))
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from error

    async def _follow(self, place: Place) -> AsyncGenerator[Item, None]:
        while not place.done:
            broke: Exception | None = None
            try:
                async with aclosing(self._frames(place.call())) as frames:
                    async for sse in frames:
                        if (item := place.take(sse)) is not None:
                            yield item
                        if place.done:
                            return
            except (httpx.TransportError, GreenroomError) as error:
                broke = error
            await asyncio.sleep(place.delay_after(broke))

    async def _frames(self, call: Call) -> AsyncGenerator[ServerSentEvent, None]:
        try:
            response = await self._http.send(_request(self._http, call, _STREAM), stream=True)
        except httpx.ConnectError as error:
            raise _unreachable(self._http.base_url, error) from error
        try:
            if response.is_error:
                raise calls.error_from(response.status_code, await response.aread())
            async for sse in EventSource(response).aiter_sse():
                yield sse
        except SSEError as error:
            raise GreenroomError(f"The server did not answer with a stream: {error}") from error
        finally:
            await response.aclose()


def _unreachable(base_url: object, error: httpx.TransportError) -> UnavailableError:
    what = str(error) or type(error).__name__
    return UnavailableError(f"No answer from {base_url} ({what}). Is it running? `greenroom up` starts it.")


def _http_options(base_url: str, api_key: str | None) -> Json:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    # Proxy variables of the environment are meant for other machines.
    return {"base_url": base_url, "headers": headers, "timeout": _ANSWER, "trust_env": not _is_loopback(base_url)}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _request(http: httpx.Client | httpx.AsyncClient, call: Call, timeout: httpx.Timeout = _ANSWER) -> httpx.Request:
    return http.build_request(
        call.method, call.path, json=call.body, params=call.query or None, headers=call.headers, timeout=timeout
    )
