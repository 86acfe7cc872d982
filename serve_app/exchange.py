"""The I/O of the clients, blocking and for asyncio: sends calls, repeats them, follows streams."""

import asyncio
import ipaddress
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from actors.core.errors import GreenroomError, UnavailableError

from .calls import Call, Item, Json, OnOutput, answer_of, ending_of, error_from
from .resuming import Place, Repeats, unconfirmed

_ANSWER = httpx.Timeout(10.0, read=330.0)  # a JSON chat answers when its turn ends, within `chat_wait_s`
_STREAM = httpx.Timeout(10.0, read=30.0)  # the server sends a heartbeat every 10 s


class Exchange:
    """Blocking. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        transport: httpx.BaseTransport | None,
        max_resumes: int,
        resume_delay_s: float,
    ) -> None:
        self._http = httpx.Client(**_http_options(base_url, api_key), transport=transport)
        self._resuming: dict[str, Any] = {"limit": max_resumes, "delay_s": resume_delay_s}

    def send(self, call: Call) -> Json:
        return answer_of(self.respond(call))

    def respond(self, call: Call) -> httpx.Response:
        repeats = Repeats(call, **self._resuming)
        while True:
            try:
                response = self._http.send(_request(self._http, call))
            except httpx.TransportError as error:
                if (delay := repeats.after_break(error)) is None:
                    raise _unanswered(self._http.base_url, error, call, repeats) from error
            else:
                if (delay := repeats.after_answer(response)) is None:
                    return response
            time.sleep(delay)

    def follow(self, opening: Call, *, one_turn: bool) -> Generator[Item, None, None]:
        place = Place(opening, one_turn=one_turn, **self._resuming)
        while not place.done:
            broke: Exception | None = None
            try:
                with closing(self._frames(place.call(), place.over)) as frames:
                    for sse in frames:
                        if (item := place.take(sse)) is not None:
                            yield item
                        if place.done:
                            return
            except (httpx.TransportError, GreenroomError) as error:
                broke = error
            if not place.done:
                time.sleep(place.delay_after(broke))

    def run(self, call: Call, on_output: OnOutput | None) -> Json:
        """A command, once: its result, and what it prints as it comes. It is killed when this is broken off."""
        try:
            with closing(self._frames(call, lambda _: False)) as frames:
                for sse in frames:
                    if (result := _taken(sse, on_output)) is not None:
                        return result
        except httpx.TransportError as error:
            raise _cut_off(error) from error
        raise _cut_off(None)

    def _frames(self, call: Call, over: Callable[[httpx.Response], bool]) -> Generator[ServerSentEvent, None, None]:
        try:
            response = self._http.send(_request(self._http, call, _STREAM), stream=True)
        except httpx.ConnectError as error:
            raise _unreachable(self._http.base_url, error) from error
        try:
            if response.is_error:
                raise error_from(response.status_code, response.read())
            if not over(response):
                yield from EventSource(response).iter_sse()
        except SSEError as error:
            raise GreenroomError(f"The server did not answer with a stream: {error}") from error
        finally:
            response.close()

    def close(self) -> None:
        self._http.close()


class AsyncExchange:
    """For asyncio."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        transport: httpx.AsyncBaseTransport | None,
        max_resumes: int,
        resume_delay_s: float,
    ) -> None:
        self._http = httpx.AsyncClient(**_http_options(base_url, api_key), transport=transport)
        self._resuming: dict[str, Any] = {"limit": max_resumes, "delay_s": resume_delay_s}

    async def send(self, call: Call) -> Json:
        return answer_of(await self.respond(call))

    async def respond(self, call: Call) -> httpx.Response:
        repeats = Repeats(call, **self._resuming)
        while True:
            try:
                response = await self._http.send(_request(self._http, call))
            except httpx.TransportError as error:
                if (delay := repeats.after_break(error)) is None:
                    raise _unanswered(self._http.base_url, error, call, repeats) from error
            else:
                if (delay := repeats.after_answer(response)) is None:
                    return response
            await asyncio.sleep(delay)

    async def follow(self, opening: Call, *, one_turn: bool) -> AsyncGenerator[Item, None]:
        place = Place(opening, one_turn=one_turn, **self._resuming)
        while not place.done:
            broke: Exception | None = None
            try:
                async with aclosing(self._frames(place.call(), place.over)) as frames:
                    async for sse in frames:
                        if (item := place.take(sse)) is not None:
                            yield item
                        if place.done:
                            return
            except (httpx.TransportError, GreenroomError) as error:
                broke = error
            if not place.done:
                await asyncio.sleep(place.delay_after(broke))

    async def run(self, call: Call, on_output: OnOutput | None) -> Json:
        try:
            async with aclosing(self._frames(call, lambda _: False)) as frames:
                async for sse in frames:
                    if (result := _taken(sse, on_output)) is not None:
                        return result
        except httpx.TransportError as error:
            raise _cut_off(error) from error
        raise _cut_off(None)

    async def _frames(
        self, call: Call, over: Callable[[httpx.Response], bool]
    ) -> AsyncGenerator[ServerSentEvent, None]:
        try:
            response = await self._http.send(_request(self._http, call, _STREAM), stream=True)
        except httpx.ConnectError as error:
            raise _unreachable(self._http.base_url, error) from error
        try:
            if response.is_error:
                raise error_from(response.status_code, await response.aread())
            if not over(response):
                async for sse in EventSource(response).aiter_sse():
                    yield sse
        except SSEError as error:
            raise GreenroomError(f"The server did not answer with a stream: {error}") from error
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()


def _taken(sse: ServerSentEvent, on_output: OnOutput | None) -> Json | None:
    """The result of a command, when this frame holds it."""
    if not sse.data:
        return None  # `retry:` alone comes as a frame too
    data: Json = sse.json()
    if sse.event == "output" and on_output is not None:
        on_output(data["text"])
    return ending_of(sse.event, data)


def _cut_off(error: Exception | None) -> UnavailableError:
    why = f" ({error or type(error).__name__})" if error is not None else ""
    return UnavailableError(f"The connection broke while the command ran{why}: it was killed, or had just ended.")


def _unanswered(base_url: object, error: httpx.TransportError, call: Call, repeats: Repeats) -> UnavailableError:
    if repeats.count and call.key is not None:
        return unconfirmed(call)
    return _unreachable(base_url, error)


def _unreachable(base_url: object, error: httpx.TransportError) -> UnavailableError:
    what = str(error) or type(error).__name__
    return UnavailableError(f"No answer from {base_url} ({what}). Is it running? `greenroom up` starts it.")


def _http_options(base_url: str, api_key: str | None) -> dict[str, Any]:
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
        call.method,
        call.path,
        json=call.body,
        content=call.content,
        params=call.query or None,
        headers=call.headers,
        timeout=timeout,
    )
