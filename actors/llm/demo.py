"""The demo model: offline, deterministic and free, so that everything but intelligence can be tried.

`demo_intents.py` finds out what is asked, `demo_programs.py` writes the Python, `demo_phrases.py` the words.
"""

import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from decimal import Decimal

from ..core.clock import Clock, SystemClock
from ..core.errors import ModelUnavailable, UnknownModel
from ..core.messages import AssistantMessage, Message, ToolCall, ToolMessage, ToolSpec, Usage, UserMessage
from . import demo_phrases
from .base import Answer, ModelInfo, ModelRequest, StreamItem, TextDelta
from .demo_asks import Ask, Talk, UseTool
from .demo_intents import asks_of

NAME = "demo"

_BYTES_PER_TOKEN = 4
_MOST_PIECES = 200
_LONGEST_ANSWER_S = 2.0


class DemoModel:
    """An `LLM` without a model. Its text comes word by word, one every `word_delay_s`, 2 s at most in all.

    It calls one tool at a time, so that later asks see what earlier ones did. A token is 4 bytes of
    UTF-8, rounded up; everything that is sent counts, the descriptions of the tools too. It costs nothing.
    """

    def __init__(self, *, clock: Clock | None = None, word_delay_s: float = 0.01) -> None:
        self._clock = clock or SystemClock()
        self._word_delay_s = word_delay_s
        self._closed = False

    @property
    def default_model(self) -> str:
        return NAME

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
        if self._closed:
            raise ModelUnavailable("the demo model was closed")
        if request.model not in ("", NAME):
            raise UnknownModel(
                f"only the offline model `{NAME}` runs here, not {request.model!r}; give the server an API key or the"
                " base URL of a model server to use others"
            )
        text, call = _reply(request)
        text, cut = _fitted(text, request.max_completion_tokens)
        pieces = _pieces(text)
        pause_s = min(self._word_delay_s, _LONGEST_ANSWER_S / max(1, len(pieces)))
        for piece in pieces:
            yield TextDelta(piece)
            if pause_s > 0:
                await self._clock.sleep(pause_s)
        made = (call,) if call and not cut else ()
        yield Answer(
            AssistantMessage(text, made),
            model=NAME,
            finish_reason="length" if cut else "tool_calls" if made else "stop",
            provider=NAME,
            usage=Usage(_prompt_tokens(request), _tokens(text, *(call.name + call.arguments for call in made))),
            cost_usd=Decimal(0),
            cost_source="free",
        )

    async def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo(NAME, "Demo (offline, free)", 1_000_000, Decimal(0), Decimal(0)),)

    async def aclose(self) -> None:
        self._closed = True


def _reply(request: ModelRequest) -> tuple[str, ToolCall | None]:
    """The text of the answer, and the call that ends it, if something is still to be done."""
    said = [message.content for message in request.messages if isinstance(message, UserMessage)]
    offered = {tool.name for tool in request.tools}
    asks: list[Ask] = asks_of(said[-1]) if said else [Talk("help", "")]
    to_do = [ask for ask in asks if isinstance(ask, UseTool) and ask.tool in offered]
    results = _results(request.messages)
    if len(results) < len(to_do):
        ask = to_do[len(results)]
        number = 1 + sum(isinstance(message, ToolMessage) for message in request.messages)
        call = ToolCall(f"call_{number}", ask.tool, json.dumps(ask.arguments, ensure_ascii=False))
        return demo_phrases.beginning(ask), call
    done = iter(results)
    return "\n\n".join(_phrase(ask, offered, done, said[:-1]) for ask in asks), None


def _phrase(ask: Ask, offered: set[str], done: Iterator[str], earlier: Sequence[str]) -> str:
    if isinstance(ask, Talk):
        return demo_phrases.talk(ask, earlier)
    if ask.tool not in offered:
        return demo_phrases.unavailable(ask)
    return demo_phrases.result(ask, next(done))


def _results(messages: Sequence[Message]) -> list[str]:
    """What tools have answered since the user spoke last."""
    results: list[str] = []
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            break
        if isinstance(message, ToolMessage):
            results.append(message.content)
    return results[::-1]


def _pieces(text: str) -> list[str]:
    """Words with the space after them; long texts in larger pieces."""
    words = re.findall(r"\s*\S+\s*", text) or ([text] if text else [])
    size = -(-len(words) // _MOST_PIECES) or 1
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _fitted(text: str, max_tokens: int) -> tuple[str, bool]:
    """The text in at most so many tokens, and whether that cut it."""
    data = text.encode("utf-8", "replace")
    limit = max_tokens * _BYTES_PER_TOKEN
    return (data[:limit].decode("utf-8", "ignore"), True) if len(data) > limit else (data.decode(), False)


def _prompt_tokens(request: ModelRequest) -> int:
    return _tokens(*map(_text_of, request.messages), *map(_schema_of, request.tools))


def _text_of(message: Message) -> str:
    called = message.tool_calls if isinstance(message, AssistantMessage) else ()
    return message.content + "".join(call.name + call.arguments for call in called)


def _schema_of(tool: ToolSpec) -> str:
    return tool.name + tool.description + json.dumps(tool.parameters)


def _tokens(*texts: str) -> int:
    return sum(-(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN) for text in texts)
