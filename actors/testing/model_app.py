"""A scripted model server as an ASGI app: it speaks the OpenAI dialect and says what it was told to say.

POST …/chat/completions, GET …/models, GET /_bill for what it would have charged, and GET /_tags for answers
by tag. Which reply a request gets: a directive in the last user message, else the first rule whose marker
that message holds, else the queue of replies, else `otherwise`.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, cast

from .asgi import Message, Receive, Scope, Send
from .reply import Reply, encode, stream_chunks, usage_chunk, whole_answer, with_id

MODEL = "scripted"
PROMPT_USD = Decimal("0.000001")
COMPLETION_USD = Decimal("0.000002")
HELLO = Reply(text=("Hello", " from", " the", " script."))
NO_SUCH_MODEL = Reply(status=404, body={"error": {"message": "no such model", "code": "model_not_found"}})


@dataclass(slots=True)
class Rule:
    """Replies to messages that hold `marker`.

    `by="step"`: the reply is chosen by how often the model has spoken since that message, so a repeated
    request gets the same reply; the last one stays. `by="call"`: each request takes the next reply, and
    the last one stays.
    """

    marker: str
    replies: tuple[Reply, ...]
    by: Literal["step", "call"] = "step"
    calls: int = 0


@dataclass(slots=True)
class ServerBill:
    """What the server was asked and what it would have charged. Prompt tokens are a quarter of the bytes."""

    calls: int = 0
    answered: int = 0
    disconnects: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal = field(default_factory=Decimal)

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "answered": self.answered,
            "disconnects": self.disconnects,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": str(self.cost_usd),
        }


class ConnectionReset(ConnectionError):
    """The script wants the connection torn down here."""


class ScriptedModelApp:
    """The app. `bill` and `requests` (the last 100 bodies) are for tests in the same process.

    A directive is a user message that is JSON of the form `{"reply": {…}}` or `{"replies": [{…}, …]}`
    with the members of `Reply`; several are chosen from as by a rule `by="step"`. A directive may have a
    `tag` after them, and `tags` counts the answers to each, so that they can be held against a ledger. With
    `models` any other model is answered by 404; without, any name will do. A reply that is to tear down the
    connection raises `ConnectionReset`, which the server or the transport around the app carries out.
    """

    def __init__(
        self,
        replies: Sequence[Reply] = (),
        *,
        rules: Sequence[Rule] = (),
        otherwise: Reply | None = HELLO,
        models: Sequence[str] | None = None,
    ) -> None:
        self.bill = ServerBill()
        self.requests: list[dict[str, Any]] = []
        self.tags: Counter[str] = Counter()
        self._queue = list(replies)
        self._rules = tuple(rules)
        self._otherwise = otherwise
        self._models = None if models is None else tuple(models)
        self._rendered: dict[tuple[Reply, str], tuple[bytes, ...]] = {}

    @classmethod
    def from_json(cls, script: dict[str, Any]) -> "ScriptedModelApp":
        """Of `{"replies": […], "rules": [{"marker", "replies", "by"}], "otherwise": {…}, "models": […]}`."""
        rules = [
            Rule(rule["marker"], tuple(map(Reply.from_json, rule["replies"])), rule.get("by", "step"))
            for rule in script.get("rules", [])
        ]
        otherwise = Reply.from_json(script["otherwise"]) if "otherwise" in script else HELLO
        replies = [Reply.from_json(reply) for reply in script.get("replies", [])]
        return cls(replies, rules=rules, otherwise=otherwise, models=script.get("models"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        path = cast("str", scope["path"])
        if path.endswith("/chat/completions"):
            await self._complete(receive, send)
        elif path.endswith("/models"):
            await _send_json(send, 200, _listed(self._models or (MODEL,)))
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
            await asyncio.sleep(reply.delay_s)
        if reply.status != 200:
            await _send_json(send, reply.status, reply.body, reply.headers)
            return
        self.bill.answered += 1
        if not reply.is_silent:
            self._count_tag(request)
        generation_id = f"gen-{self.bill.calls:08}"
        model = reply.model or cast("str", request.get("model", MODEL))
        if not request.get("stream"):
            usage = self._charge(len(body), reply.tokens, reply)
            await _send_json(send, 200, whole_answer(reply, model, usage), id=generation_id)
            return
        await self._stream(reply, model, generation_id, len(body), receive, send)

    async def _stream(
        self, reply: Reply, model: str, generation_id: str, prompt_bytes: int, receive: Receive, send: Send
    ) -> None:
        if reply.is_silent:
            raise ConnectionReset("before the headers")
        chunks = reply.raw or self._chunks(reply, model)
        if reply.cut_after is not None:
            chunks = chunks[: reply.cut_after]
        tokens = reply.tokens if reply.cut_after is None else max(0, len(chunks) - 1)
        usage = self._charge(prompt_bytes, tokens, reply)
        if not reply.raw and reply.cut_after is None and reply.ending == "done":
            chunks = (*chunks, usage_chunk(model, usage) + b"data: [DONE]\n\n")
        headers = [(b"content-type", b"text/event-stream"), (b"x-generation-id", generation_id.encode())]
        headers += [(name.encode(), value.encode()) for name, value in reply.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not reply.gap_s:  # one write, so that a reply without delays costs little
            await send(_part(with_id(b"".join(chunks), generation_id), more=True))
        else:
            for chunk in chunks:
                await send(_part(with_id(chunk, generation_id), more=True))
                if await self._gone_within(reply.gap_s, receive):
                    return
        if reply.ending == "hang":
            await self._gone_within(None, receive)
        elif reply.ending == "reset":
            raise ConnectionReset("in the middle of the answer")
        else:
            await send(_part(b"", more=False))

    def _choose(self, request: dict[str, Any]) -> Reply:
        said, spoken = _last_user_message(request)
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
        said, _ = _last_user_message(request)
        if said.startswith('{"repl') and "tag" in (directive := cast("dict[str, Any]", json.loads(said))):
            self.tags[directive["tag"]] += 1

    def _chunks(self, reply: Reply, model: str) -> tuple[bytes, ...]:
        key = (reply, model)
        if key not in self._rendered:
            if len(self._rendered) > 1000:
                self._rendered.clear()
            self._rendered[key] = stream_chunks(reply, model)
        return self._rendered[key]

    def _charge(self, prompt_bytes: int, completion_tokens: int, reply: Reply) -> dict[str, Any]:
        """Put the answer on the bill; returns its `usage`."""
        prompt_tokens = -(-prompt_bytes // 4)
        cost = prompt_tokens * PROMPT_USD + completion_tokens * COMPLETION_USD if reply.cost == "auto" else reply.cost
        self.bill.prompt_tokens += prompt_tokens
        self.bill.completion_tokens += completion_tokens
        self.bill.cost_usd += cost or 0
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "cost": cost,
        }

    async def _gone_within(self, seconds: float | None, receive: Receive) -> bool:
        """Wait; returns early and true when the client disconnects."""
        try:
            async with asyncio.timeout(seconds):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        self.bill.disconnects += 1
        return True


def _last_user_message(request: dict[str, Any]) -> tuple[str, int]:
    """Its text, and how often the model has spoken since."""
    spoken = 0
    for message in reversed(cast("list[dict[str, Any]]", request.get("messages", []))):
        if message["role"] == "user":
            return str(message["content"]), spoken
        spoken += message["role"] == "assistant"
    return "", spoken


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
    send: Send, status: int, value: Any, headers: Sequence[tuple[str, str]] = (), *, id: str = ""
) -> None:
    raw = [(b"content-type", b"application/json"), *((name.encode(), text.encode()) for name, text in headers)]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send(_part(with_id(encode(value), id) if id else encode(value), more=False))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
