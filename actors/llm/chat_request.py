"""The body of a chat completion request, and where servers that speak this dialect differ."""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, assert_never

import httpx

from ..core.messages import AssistantMessage, Message, SystemMessage, ToolMessage, ToolSpec, UserMessage
from .base import ModelRequest
from .preferences import Preferences

_NO_PARAMETERS = {"type": "object", "properties": dict[str, Any]()}


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """How one server wants to be asked.

    `gateway_members`: it knows OpenRouter's `session_id` and `user`, and reports usage unasked. Other
    servers may refuse members that they do not know.
    """

    completion_limit: str = "max_tokens"
    gateway_members: bool = False

    @classmethod
    def of(cls, base_url: str, completion_limit: str = "max_tokens") -> "ChatDialect":
        """The dialect of the server at `base_url`; `completion_limit` is used where it is not OpenRouter."""
        host = httpx.URL(base_url).host
        if host == "openrouter.ai" or host.endswith(".openrouter.ai"):
            return OPENROUTER_DIALECT
        return cls(completion_limit)


OPENROUTER_DIALECT = ChatDialect("max_completion_tokens", gateway_members=True)


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """US dollars per million tokens that a provider may ask for at most; None is no limit."""

    prompt_usd: Decimal | None = None
    completion_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """What a gateway may choose: models in place of the one that is asked, and among which providers.

    Any server is told of the preferences that are not about providers.
    """

    fallbacks: tuple[str, ...] = ()
    ignored_providers: tuple[str, ...] = ()
    max_price: MaxPrice = MaxPrice()
    preferences: Preferences = field(default_factory=Preferences)


_NO_CHOICE = Routing()


def encode_request(request: ModelRequest, dialect: ChatDialect, routing: Routing = _NO_CHOICE) -> bytes:
    """The JSON body. Only a gateway is told of models and providers.

    Lone surrogates, which no server could decode, become question marks.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        dialect.completion_limit: request.max_completion_tokens,
    }
    if request.tools:
        body["tools"] = [_tool(spec) for spec in request.tools]
    body |= routing.preferences.members(gateway=dialect.gateway_members)
    if dialect.gateway_members:
        body |= _routed(request.model, routing)
        if request.session_ref:
            body["session_id"] = request.session_ref
        if request.user_ref:
            body["user"] = request.user_ref
    else:
        body["stream_options"] = {"include_usage": True}
    # default=float: details that came from the server may hold fractions, which were read as Decimal.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=float).encode("utf-8", "replace")


def _routed(model: str, routing: Routing) -> dict[str, Any]:
    body: dict[str, Any] = {"models": [model, *routing.fallbacks]} if routing.fallbacks else {}
    price = routing.max_price
    limits = {"prompt": price.prompt_usd, "completion": price.completion_usd}
    limits = {name: usd for name, usd in limits.items() if usd is not None}
    provider = routing.preferences.provider() | ({"max_price": limits} if limits else {})
    if routing.ignored_providers:
        provider["ignore"] = list(routing.ignored_providers)
    return {**body, "provider": provider} if provider else body


def _message(message: Message) -> dict[str, Any]:
    match message:
        case SystemMessage(content):
            return {"role": "system", "content": content}
        case UserMessage(content):
            return {"role": "user", "content": content}
        case ToolMessage(call_id, content):
            return {"role": "tool", "tool_call_id": call_id, "content": content}
        case AssistantMessage():
            return _assistant(message)
        case _:
            assert_never(message)


def _assistant(message: AssistantMessage) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": "assistant", "content": message.content}
    if message.tool_calls:
        encoded["content"] = message.content or None  # some servers refuse empty text beside calls
        encoded["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.reasoning_details:
        encoded["reasoning_details"] = message.reasoning_details
    return encoded


def _tool(spec: ToolSpec) -> dict[str, Any]:
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters or _NO_PARAMETERS}
    return {"type": "function", "function": function}
