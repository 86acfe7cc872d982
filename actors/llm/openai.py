"""A model behind any OpenAI-compatible server, OpenRouter first of all.

One call of `stream` is one or more attempts (`retries.py`) under three clocks (`deadlines.py`); an
attempt is one POST (`chat_request.py`), whose response becomes events, chunks and an answer
(`chat_response.py`). Settling a call that was cancelled, from the gateway's own records, is to come here.
"""

import difflib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import structlog

from ..core.clock import Clock, SystemClock
from ..core.errors import InvalidInput, ModelUnavailable
from .answer import AnswerAssembler
from .base import ModelInfo, ModelRequest, Resending, StreamItem, TextDelta
from .catalogue import ModelCatalogue
from .chat_request import ChatDialect, encode_request
from .chat_response import read_answer, read_body, read_failure
from .connections import open_connections
from .deadlines import DeadlinePassed, StreamDeadline, Timeouts
from .failures import Cause, UpstreamFailure, as_error, of_transport, retried
from .json_values import parse_object
from .retries import RetryPolicy

log = structlog.stdlib.get_logger(__name__)

_MAX_LIST_BYTES = 32 * 1024 * 1024
_MODELS_FRESH_S = 3600.0


class OpenAIClient:
    """An `LLM` over HTTP. Keeps connections open and reuses them; close it with `aclose`.

    `base_url` ends where `/chat/completions` begins. `dialect` is guessed from it when None. `transport`
    replaces the network, for tests. Raises `InvalidInput` when the base URL is none.
    """

    def __init__(
        self,
        *,
        base_url: str,
        default_model: str,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        retries: RetryPolicy | None = None,
        dialect: ChatDialect | None = None,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        max_in_flight: int = 2000,
    ) -> None:
        self._default_model = default_model
        self._timeouts = timeouts or Timeouts()
        self._retries = retries or RetryPolicy()
        self._clock = clock or SystemClock()
        self._api_key = (api_key or "").strip()
        root = _checked(base_url)
        self._dialect = dialect or ChatDialect.of(root)
        self._completions_url = httpx.URL(f"{root}/chat/completions")
        self._models_url = httpx.URL(f"{root}/models")
        self._headers = self._make_headers()
        self._extensions = {"timeout": httpx.Timeout(self._timeouts.connect_s, read=None).as_dict()}
        self._http = httpx.AsyncClient(
            transport=transport
            or open_connections(self._completions_url, clock=self._clock, max_in_flight=max_in_flight),
            trust_env=False,
        )
        self._catalogue = ModelCatalogue(self._fetch_models, clock=self._clock, fresh_s=_MODELS_FRESH_S)

    @property
    def default_model(self) -> str:
        return self._default_model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
        request = request if request.model else replace(request, model=self._default_model)
        deadline = StreamDeadline(self._clock, self._timeouts)
        failures = 0
        try:
            while True:
                assembler = AnswerAssembler(request.model)
                yielded = False
                try:
                    async with aclosing(self._attempt(request, assembler, deadline)) as items:
                        async for item in items:
                            yielded = True
                            yield item
                except (UpstreamFailure, DeadlinePassed, httpx.HTTPError) as error:
                    failure = self._explained(error, request.model)
                else:
                    return
                failures += 1
                wait_s = None if yielded else self._retries.wait_s(failure, failures, deadline.left_s)
                if wait_s is None:
                    partial = assembler.text
                    if partial and not yielded:  # half an answer that came in one piece with its error
                        yielded = True
                        yield TextDelta(partial)
                    raise as_error(failure, partial=partial, generation_id=assembler.generation_id, yielded=yielded)
                if failure.affordable_tokens:
                    request = replace(request, max_completion_tokens=failure.affordable_tokens)
                log.warning("llm.retry", cause=failure.cause.value, status=failure.status, wait_s=round(wait_s, 3))
                yield retried(failure, assembler.generation_id)
                await self._clock.sleep(wait_s)
                yield Resending()
        finally:
            deadline.close()

    async def models(self) -> tuple[ModelInfo, ...]:
        return await self._catalogue.models()

    async def aclose(self) -> None:
        await self._catalogue.aclose()
        await self._http.aclose()

    async def _attempt(
        self, request: ModelRequest, assembler: AnswerAssembler, deadline: StreamDeadline
    ) -> AsyncGenerator[StreamItem, None]:
        deadline.begin()
        response = await deadline.wait(
            self._send("POST", self._completions_url, encode_request(request, self._dialect))
        )
        try:
            assembler.generation_id = response.headers.get("x-generation-id")
            if not response.is_success:
                raise await read_failure(response, deadline, self._clock.now())
            async with aclosing(read_answer(response, assembler, deadline)) as items:
                async for item in items:
                    yield item
            yield self._catalogue.priced(assembler.finish(), request.model)
        finally:
            await response.aclose()

    async def _send(self, method: str, url: httpx.URL, content: bytes | None = None) -> httpx.Response:
        if self._http.is_closed:
            raise ModelUnavailable("the client of the model server was closed")
        # Not `build_request`: it merges URLs, headers and cookies anew for every call.
        request = httpx.Request(method, url, headers=self._headers, content=content, extensions=self._extensions)
        return await self._http.send(request, stream=True)

    async def _fetch_models(self) -> dict[str, Any]:
        deadline = StreamDeadline(self._clock, self._timeouts)
        try:
            response = await deadline.wait(self._send("GET", self._models_url))
            try:
                if not response.is_success:
                    raise await read_failure(response, deadline, self._clock.now())
                body = parse_object(await read_body(response, deadline, _MAX_LIST_BYTES))
            finally:
                await response.aclose()
        except (UpstreamFailure, DeadlinePassed, httpx.HTTPError) as error:
            failure = self._explained(error, "")
            raise ModelUnavailable(f"the list of models cannot be read: {failure.message}") from error
        finally:
            deadline.close()
        if body is None:
            raise ModelUnavailable("the list of models is not a JSON object; is the base URL right?")
        return body

    def _explained(self, error: UpstreamFailure | DeadlinePassed | httpx.HTTPError, model: str) -> UpstreamFailure:
        match error:
            case UpstreamFailure():
                failure = error
            case DeadlinePassed():
                failure = UpstreamFailure(Cause.AMBIGUOUS, str(error))
            case _:
                failure = of_transport(error)
        if failure.status in (400, 404) and self._catalogue.ids and not self._catalogue.lists(model):
            failure.cause = Cause.UNKNOWN_MODEL
        if failure.cause is Cause.UNKNOWN_MODEL:
            near = difflib.get_close_matches(model, self._catalogue.ids, n=3)
            failure.message += f" ({model!r}; did you mean {', '.join(near)}?)" if near else f" ({model!r})"
        if self._api_key:
            failure.message = failure.message.replace(self._api_key, "<api key>")
        return failure

    def _make_headers(self) -> httpx.Headers:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",  # a compressor between us and the model would hold tokens back
            "User-Agent": "greenroom",
        }
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        if self._dialect.gateway_members:
            headers["X-OpenRouter-Title"] = "Greenroom"
        return httpx.Headers(headers)


def _checked(base_url: str) -> str:
    root = base_url.strip().rstrip("/")
    if root.endswith("/chat/completions"):
        raise InvalidInput(f"the base URL of the model server ends before /chat/completions, it is {root[:-17]}")
    try:
        url = httpx.URL(root)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"the base URL of the model server is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput(f"the base URL of the model server must begin with http:// or https://, not {root!r}")
    return root
