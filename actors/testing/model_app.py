"""A scripted model server as an ASGI app: it speaks the OpenAI dialect and says what it was told to say.

POST …/chat/completions, GET …/models, GET …/generation?id= for the record of an answer, GET …/key for the meter of
the credential, GET /_bill for what it would have charged, and GET /_tags for answers by tag. Which reply a request
gets: a fault that is drawn, else a directive in the last user message, else the first rule whose marker that message
holds, else the queue of replies, else `otherwise`.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from urllib.parse import parse_qs

from ..core.clock import Clock, SystemClock
from .asgi import Message, Receive, Scope, Send
from .model_bill import COMPLETION_USD, PROMPT_USD, Generation, ServerBill
from .model_script import Rule, last_user_message, read_script, replies_of
from .reply import COMMENT, USAGE, Reply, encode, stream_chunks, usage_chunk, whole_answer, with_id, with_moments
from .wire_faults import WireFaults

MODEL = "scripted"
HELLO = Reply(text=("Hello", " from", " the", " script."))
NO_SUCH_MODEL = Reply(status=404, body={"error": {"message": "no such model", "code": "model_not_found"}})


class ConnectionReset(ConnectionError):
    """The script wants the connection torn down here."""


class ScriptedModelApp:
    """The app. `bill` and `requests` (the last 100 bodies) are for tests in the same process.

    A directive is a user message that is JSON of the form `{"reply": {…}}` or `{"replies": [{…}, …]}`
    with the members of `Reply`; several are chosen from as by a rule `by="step"`. `{"fixture": "name"}` plays
    one of `wire_fixtures.py`, a reply for each request with that message. A directive may have a `tag` after
    them, and `tags` counts the answers to each, so that they can be held against a ledger. With `models` any
    other model is answered by 404; without, any name will do. A reply that is to tear down the connection
    raises `ConnectionReset`, which the server or the transport around the app carries out.
    """

    def __init__(
        self,
        replies: Sequence[Reply] = (),
        *,
        rules: Sequence[Rule] = (),
        otherwise: Reply | None = HELLO,
        models: Sequence[str] | None = None,
        faults: WireFaults | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._faults = faults
        self._played: Counter[str] = Counter()
        self.bill = ServerBill(self._clock)
        self.requests: list[dict[str, Any]] = []
        self.tags: Counter[str] = Counter()
        self._queue = list(replies)
        self._rules = tuple(rules)
        self._otherwise = otherwise
        self._models = None if models is None else tuple(models)
        self._rendered: dict[tuple[Reply, str], tuple[bytes, ...]] = {}

    @classmethod
    def from_json(
        cls, script: dict[str, Any], *, faults: WireFaults | None = None, clock: Clock | None = None
    ) -> "ScriptedModelApp":
        """Of `{"replies": […], "rules": [{"marker", "replies", "by"}], "otherwise": {…}, "models": […]}`.

        `{"fixture": "name"}` in place of a reply stands for those of that fixture. Raises ValueError for
        members and fixtures that there are not, and for replies without their form.
        """
        read = read_script(script)
        otherwise = read.otherwise or HELLO
        return cls(read.replies, rules=read.rules, otherwise=otherwise, models=read.models, faults=faults, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        path = cast("str", scope["path"])
        if path.endswith("/chat/completions"):
            await self._complete(receive, send)
        elif path.endswith("/models"):
            await _send_json(send, 200, _listed(self._models or (MODEL,)))
        elif path.endswith("/generation"):
            await self._show_generation(scope, send)
        elif path.endswith("/key"):
            await _send_json(send, 200, {"data": self.bill.key_as_json()})
        elif path == "/_bill":
            await _send_json(send, 200, self.bill.as_json())
        elif path == "/_tags":
            await _send_json(send, 200, self.tags)
        else:
            await _send_json(send, 404, {"error": {"message": f"there is nothing at {path}", "code": 404}})

    async def _complete(self, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        request = cast("dict[str, Any]", json.loads(body))
        self.bill.calls += 1
        self.requests = [*self.requests[-99:], request]
        reply = self._choose(request)
        if self._models is not None and request.get("model") not in self._models:
            reply = NO_SUCH_MODEL
        if reply.delay_s:
            await self._clock.sleep(reply.delay_s)
        if reply.is_plain:
            self.bill.answered += reply.status == 200
            await _send_json(send, reply.status, reply.body, reply.headers, now=self._clock.now())
            return
        self.bill.answered += 1
        if not reply.is_silent:
            self._count_tag(request)
        generation_id = f"gen-{self.bill.calls:08}"
        model = reply.model or cast("str", request.get("model", MODEL))
        if request.get("stream") and reply.streamed:
            await self._stream(reply, model, generation_id, len(body), receive, send)
            return
        made = self.bill.charge(
            generation_id, model, reply, streamed=False, prompt_bytes=len(body), tokens=reply.tokens
        )
        await _send_json(send, 200, whole_answer(reply, model, made.usage()), id=generation_id)

    async def _stream(
        self, reply: Reply, model: str, generation_id: str, prompt_bytes: int, receive: Receive, send: Send
    ) -> None:
        if reply.is_silent:
            raise ConnectionReset("before the headers")
        chunks = reply.raw or self._chunks(reply, model)
        if reply.cut_after is not None:
            chunks = chunks[: reply.cut_after]
        tokens = reply.tokens if reply.cut_after is None else max(0, len(chunks) - 1)
        made = self.bill.charge(generation_id, model, reply, streamed=True, prompt_bytes=prompt_bytes, tokens=tokens)
        if not reply.raw and reply.cut_after is None and reply.ending == "done":
            chunks = (*chunks, usage_chunk(model, made.usage()) + b"data: [DONE]\n\n")
        try:
            await self._send_chunks(reply, made, chunks, receive, send)
        finally:
            made.running = False

    async def _send_chunks(
        self, reply: Reply, made: Generation, chunks: tuple[bytes, ...], receive: Receive, send: Send
    ) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-generation-id", made.id.encode())]
        headers += [(name.encode(), value.encode()) for name, value in reply.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not reply.gap_s and not reply.raw:  # one write, so that a reply without delays costs little
            chunks = (b"".join(chunks),)
        for number, chunk in enumerate(chunks):
            await send(_part(self._filled(chunk, made), more=True))
            if reply.gap_s and await self._gone_within(reply.gap_s, receive):
                self.bill.cancel(made, sent_tokens=number)
                return
        await self._end(reply, made, len(chunks), receive, send)

    async def _end(self, reply: Reply, made: Generation, sent: int, receive: Receive, send: Send) -> None:
        match reply.ending:
            case "hang":
                await self._gone_within(None, receive)
                self.bill.cancel(made, sent_tokens=sent)
            case "comments":
                while not await self._gone_within(reply.gap_s or 1.0, receive):
                    await send(_part(COMMENT, more=True))
                self.bill.cancel(made, sent_tokens=sent)
            case "reset":
                raise ConnectionReset("in the middle of the answer")
            case _:
                await send(_part(b"", more=False))

    def _filled(self, chunk: bytes, made: Generation) -> bytes:
        usage = USAGE.encode()
        if usage in chunk:
            chunk = chunk.replace(usage, encode(made.usage()))
        return with_moments(with_id(chunk, made.id), self._clock.now())

    async def _show_generation(self, scope: Scope, send: Send) -> None:
        asked = parse_qs(bytes(scope["query_string"]).decode()).get("id", [""])[0]
        made = self.bill.look_up(asked)
        if made is None:
            await _send_json(send, 404, {"error": {"message": f"Generation {asked} not found", "code": 404}})
        else:
            await _send_json(send, 200, {"data": made.as_json()})

    def _choose(self, request: dict[str, Any]) -> Reply:
        if self._faults is not None and (fault := self._faults.draw()) is not None:
            self.bill.faults += 1
            return fault
        said, spoken = last_user_message(request)
        if said.startswith('{"fixture"'):
            self._played[said] += 1
            replies = replies_of([json.loads(said)])
            return replies[min(self._played[said], len(replies)) - 1]
        if said.startswith('{"repl'):
            directive = cast("dict[str, Any]", json.loads(said))
            replies = [directive["reply"]] if "reply" in directive else cast("list[Any]", directive["replies"])
            return Reply.from_json(replies[min(spoken, len(replies) - 1)])
        for rule in self._rules:
            if rule.marker in said:
                at = spoken if rule.by == "step" else rule.calls
                rule.calls += 1
                return rule.replies[min(at, len(rule.replies) - 1)]
        if self._queue:
            return self._queue.pop(0)
        if self._otherwise is not None:
            return self._otherwise
        return Reply(status=500, body={"error": {"message": "the script has no reply left", "code": 500}})

    def _count_tag(self, request: dict[str, Any]) -> None:
        said, _ = last_user_message(request)
        if said.startswith(('{"repl', '{"fixture"')) and "tag" in (
            directive := cast("dict[str, Any]", json.loads(said))
        ):
            self.tags[directive["tag"]] += 1

    def _chunks(self, reply: Reply, model: str) -> tuple[bytes, ...]:
        key = (reply, model)
        if key not in self._rendered:
            if len(self._rendered) > 1000:
                self._rendered.clear()
            self._rendered[key] = stream_chunks(reply, model)
        return self._rendered[key]

    async def _gone_within(self, seconds: float | None, receive: Receive) -> bool:
        """Wait; returns early and true when the client disconnects."""
        gone = asyncio.ensure_future(_disconnect(receive))
        waits = [gone] if seconds is None else [gone, asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return gone.done()
        finally:
            for wait in waits:
                wait.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _listed(models: Sequence[str]) -> dict[str, Any]:
    pricing = {"prompt": str(PROMPT_USD), "completion": str(COMPLETION_USD)}
    return {"data": [{"id": name, "name": name, "context_length": 100_000, "pricing": pricing} for name in models]}


async def _body(receive: Receive) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _send_json(
    send: Send,
    status: int,
    value: Any,
    headers: Sequence[tuple[str, str]] = (),
    *,
    id: str = "",
    now: datetime | None = None,
) -> None:
    def filled(text: bytes) -> bytes:
        return with_moments(text, now) if now is not None else text

    raw = [(b"content-type", b"application/json")]
    raw += [(name.encode(), filled(text.encode())) for name, text in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    body = filled(encode(value))
    await send(_part(with_id(body, id) if id else body, more=False))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
