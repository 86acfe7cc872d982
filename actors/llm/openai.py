"""A model behind any OpenAI-compatible server, OpenRouter first of all.

One call of `stream` is one or more attempts (`retries.py`) under three clocks (`deadlines.py`); an
attempt is one POST (`chat_request.py`), whose response becomes events, chunks and an answer
(`chat_response.py`). Breakers may refuse an attempt (`call_breakers.py`), another model may be asked in place
of the first (`course.py`), and what a call that was broken off has cost is looked up (`generations.py`).
"""

import difflib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import structlog

from ..core.clock import Clock, SystemClock
from ..core.errors import ModelUnavailable
from .answer import AnswerAssembler
from .base import Began, GenerationRecord, KeyUsage, ModelInfo, ModelRequest, Resending, StreamItem, TextDelta
from .breakers import BreakerOpen, BreakerPolicy, Breakers
from .call_breakers import CallBreakers, Entered
from .catalogue import ModelCatalogue
from .chat_request import ChatDialect, MaxPrice, Routing, encode_request
from .chat_response import read_answer, read_body, read_failure
from .connections import open_connections
from .course import Course
from .deadlines import DeadlinePassed, StreamDeadline, Timeouts
from .endpoint import checked_base_url, pseudonymous, request_headers
from .failures import Cause, UpstreamFailure, as_error, as_refusal, of_transport, retried, wait_for_reset
from .generations import find_generation
from .json_values import as_object, parse_object
from .preferences import Preferences
from .price_table import Table, no_table
from .retries import RetryPolicy
from .usage import read_usd

log = structlog.stdlib.get_logger(__name__)

_MAX_LIST_BYTES = 32 * 1024 * 1024
_MODELS_FRESH_S = 3600.0


class OpenAIClient:
    """An `LLM` over HTTP. Keeps connections open and reuses them; close it with `aclose`.

    `base_url` ends where `/chat/completions` begins. `dialect` is guessed from it when None. `fallbacks` are
    models to ask when the one that was asked fails, in their order, none above `max_price`, where
    that is known. `table` knows prices that the server does not list. `transport` replaces the network, for
    tests. Raises `InvalidInput` when the base URL is none, or the server cannot heed the `preferences`.
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
        fallbacks: tuple[str, ...] = (),
        max_price: MaxPrice | None = None,
        preferences: Preferences | None = None,
        breakers: Breakers | None = None,
        table: Table = no_table,
    ) -> None:
        self._default_model = default_model
        self._timeouts = timeouts or Timeouts()
        self._retries = retries or RetryPolicy()
        self._clock = clock or SystemClock()
        self._api_key = (api_key or "").strip()
        root = checked_base_url(base_url)
        self._dialect = dialect or ChatDialect.of(root)
        self._completions_url = httpx.URL(f"{root}/chat/completions")
        self._models_url = httpx.URL(f"{root}/models")
        self._key_url = httpx.URL(f"{root}/key")
        self._generation_url = httpx.URL(f"{root}/generation")
        self._headers = request_headers(self._api_key, self._dialect)
        self._fallbacks = fallbacks
        self._max_price = max_price or MaxPrice()
        self._preferences = preferences or Preferences()
        self._preferences.check(gateway=self._dialect.gateway_members)
        self._breakers = CallBreakers(
            breakers or Breakers(BreakerPolicy(), clock=self._clock),
            server=self._completions_url.host,
            providers=self._dialect.gateway_members,
        )
        self._extensions = {"timeout": httpx.Timeout(self._timeouts.connect_s, read=None).as_dict()}
        self._http = httpx.AsyncClient(
            transport=transport
            or open_connections(self._completions_url, clock=self._clock, max_in_flight=max_in_flight),
            trust_env=False,
        )
        self._catalogue = ModelCatalogue(self._fetch_models, clock=self._clock, fresh_s=_MODELS_FRESH_S, table=table)

    @property
    def default_model(self) -> str:
        return self._default_model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
        course = self._course(request)
        deadline = StreamDeadline(self._clock, self._timeouts)
        yielded = False
        try:
            while True:
                with self._enter(course) as entered:
                    if course.attempts:
                        yield Resending()
                    course.attempts += 1
                    assembler = AnswerAssembler(course.request.model)
                    try:
                        async with aclosing(self._attempt(course, assembler, deadline, entered)) as items:
                            async for item in items:
                                yielded = yielded or not isinstance(item, Began)
                                yield item
                    except (UpstreamFailure, DeadlinePassed, httpx.HTTPError) as error:
                        failure = self._explained(error, course.request.model)
                        entered.failed(failure)
                    else:
                        return
                wait_s = None if yielded else course.after(failure, deadline.left_s)
                if wait_s is None:
                    partial = assembler.text
                    if partial and not yielded:  # half an answer that came in one piece with its error
                        yielded = True
                        yield TextDelta(partial)
                    raise as_error(failure, partial=partial, generation_id=assembler.generation_id, yielded=yielded)
                log.warning("llm.retry", cause=failure.cause.value, status=failure.status, wait_s=round(wait_s, 3))
                yield retried(failure, assembler.generation_id)
                await self._clock.sleep(wait_s)
        finally:
            deadline.close()

    async def models(self) -> tuple[ModelInfo, ...]:
        return await self._catalogue.models()

    async def aclose(self) -> None:
        await self._catalogue.aclose()
        await self._http.aclose()

    async def generation(self, generation_id: str, *, within_s: float = 30.0) -> GenerationRecord | None:
        """See `Generations`. Servers that are no gateway keep no records."""
        if not self._dialect.gateway_members:
            return None
        return await find_generation(generation_id, self._fetch_generation, clock=self._clock, within_s=within_s)

    async def key_usage(self) -> KeyUsage | None:
        """See `KeyMeter`. Servers that are no gateway have none."""
        body = await self._fetch(self._key_url, "what the API key has used") if self._dialect.gateway_members else None
        if body is None:
            return None
        data = as_object(body.get("data"))
        return KeyUsage(read_usd(data.get("usage_daily")), read_usd(data.get("usage_monthly")))

    def _course(self, request: ModelRequest) -> Course:
        asked = request if request.model else replace(request, model=self._default_model)
        gateway = self._dialect.gateway_members
        fallbacks = (model for model in self._fallbacks if not self._catalogue.is_dearer(model, self._max_price))
        return Course(
            pseudonymous(asked, self._api_key) if gateway else asked,
            retries=self._retries,
            fallbacks=tuple(fallbacks),
            server_falls_back=gateway,
        )

    def _enter(self, course: Course) -> Entered:
        """Pass the breakers, with another model if need be. Raises `ModelUnavailable`."""
        while True:
            try:
                return self._breakers.enter(course.request.model)
            except BreakerOpen as refused:
                if refused.key[0] != "model" or not course.fall_back():
                    raise as_refusal(refused) from refused

    async def _attempt(
        self, course: Course, assembler: AnswerAssembler, deadline: StreamDeadline, entered: Entered
    ) -> AsyncGenerator[StreamItem, None]:
        deadline.begin()
        routing = Routing(course.server_fallbacks, entered.ignored_providers, self._max_price, self._preferences)
        body = encode_request(course.request, self._dialect, routing)
        response = await deadline.wait(self._send("POST", self._completions_url, body))
        try:
            assembler.generation_id = response.headers.get("x-generation-id")
            if not response.is_success:
                raise await read_failure(response, deadline, self._clock.now())
            if assembler.generation_id:
                yield Began(assembler.generation_id)
            async with aclosing(read_answer(response, assembler, deadline)) as items:
                async for item in items:
                    yield item
            answer = assembler.finish()
            entered.answered(answer, course.server_fallbacks)
            yield self._catalogue.priced(answer, course.request.model)
        finally:
            await response.aclose()

    async def _send(self, method: str, url: httpx.URL, content: bytes | None = None) -> httpx.Response:
        if self._http.is_closed:
            raise ModelUnavailable("the client of the model server was closed")
        # Not `build_request`: it merges URLs, headers and cookies anew for every call.
        request = httpx.Request(method, url, headers=self._headers, content=content, extensions=self._extensions)
        return await self._http.send(request, stream=True)

    async def _fetch_models(self) -> dict[str, Any]:
        body = await self._fetch(self._models_url, "the list of models")
        if body is None:
            raise ModelUnavailable("the list of models is not there; is the base URL right?")
        return body

    async def _fetch_generation(self, generation_id: str) -> dict[str, Any] | None:
        return await self._fetch(self._generation_url.copy_with(params={"id": generation_id}), "the record")

    async def _fetch(self, url: httpx.URL, what: str) -> dict[str, Any] | None:
        """A JSON object; None for 404. Raises `ModelUnavailable`."""
        deadline = StreamDeadline(self._clock, self._timeouts)
        try:
            response = await deadline.wait(self._send("GET", url))
            try:
                if response.status_code == 404:
                    return None
                if not response.is_success:
                    raise await read_failure(response, deadline, self._clock.now())
                body = parse_object(await read_body(response, deadline, _MAX_LIST_BYTES))
            finally:
                await response.aclose()
        except (UpstreamFailure, DeadlinePassed, httpx.HTTPError) as error:
            failure = self._explained(error, "")
            raise ModelUnavailable(f"{what} cannot be read: {failure.message}") from error
        finally:
            deadline.close()
        if body is None:
            raise ModelUnavailable(f"{what} is not a JSON object; is the base URL right?")
        return body

    def _explained(self, error: UpstreamFailure | DeadlinePassed | httpx.HTTPError, model: str) -> UpstreamFailure:
        match error:
            case UpstreamFailure():
                failure = error
            case DeadlinePassed():
                failure = UpstreamFailure(Cause.AMBIGUOUS, str(error))
            case _:
                failure = of_transport(error)
        wait_for_reset(failure, self._clock.now())
        if failure.status in (400, 404) and self._catalogue.ids and not self._catalogue.lists(model):
            failure.cause = Cause.UNKNOWN_MODEL
        if failure.cause is Cause.UNKNOWN_MODEL:
            near = difflib.get_close_matches(model, self._catalogue.ids, n=3)
            failure.message += f" ({model!r}; did you mean {', '.join(near)}?)" if near else f" ({model!r})"
        if self._api_key:
            failure.message = failure.message.replace(self._api_key, "<api key>")
        return failure
