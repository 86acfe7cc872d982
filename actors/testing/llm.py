"""A language model that follows a script, in process."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from ..core.errors import ModelUnavailable, UnknownModel
from ..core.messages import AssistantMessage, ToolCall, Usage
from ..llm.base import (
    Answer,
    Began,
    ModelInfo,
    ModelRequest,
    Queued,
    ReasoningText,
    Resending,
    Retrying,
    Sending,
    StreamItem,
    TextDelta,
)

Step: TypeAlias = StreamItem | asyncio.Event | BaseException
"""What a scripted call does next: yield the item, wait until the event is set, or raise."""
Script: TypeAlias = Sequence[Step]

MODEL = "scripted"


def says(*pieces: str, cost_usd: Decimal | None = Decimal("0.000010")) -> list[Step]:
    """The script of an answer in text: one delta per piece, 10 prompt tokens and one token per piece."""
    return [*map(TextDelta, pieces), _answer("".join(pieces), (), len(pieces), cost_usd)]


def calls(*wanted: tuple[str, dict[str, Any]], text: str = "", ids: Sequence[str] = ()) -> list[Step]:
    """The script of an answer that calls tools: `calls(("run_python", {"code": "print(1)"}))`.

    The calls get `ids`, or `call_1`, `call_2`, … in every answer, as some real servers do it.
    """
    made = tuple(
        ToolCall(ids[at] if ids else f"call_{at + 1}", name, json.dumps(arguments))
        for at, (name, arguments) in enumerate(wanted)
    )
    deltas = [TextDelta(text)] if text else []
    return [*deltas, _answer(text, made, 10 * len(made), Decimal("0.000010"))]


class ScriptedLLM:
    """An `LLM` whose n-th call follows the n-th script; calls beyond the last follow `otherwise`.

    A call that no script is left for raises AssertionError. `requests` are all requests in order; `open`
    counts the streams that run now and `broken_off` those that were closed or cancelled by the reader.
    """

    def __init__(
        self, scripts: Iterable[Script] = (), *, otherwise: Script | None = None, models: Sequence[str] = (MODEL,)
    ) -> None:
        self.requests: list[ModelRequest] = []
        self.open = 0
        self.broken_off = 0
        self.closed = False
        self._scripts = list(scripts)
        self._otherwise = otherwise
        self._models = tuple(models)

    @property
    def default_model(self) -> str:
        return self._models[0]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
        if self.closed:
            raise ModelUnavailable("the scripted model was closed")
        if request.model and request.model not in self._models:
            raise UnknownModel(f"the scripted model is called {', '.join(self._models)}, not {request.model}")
        script = self._next_script()
        self.requests.append(request)
        self.open += 1
        try:
            for step in script:
                match step:
                    case asyncio.Event():
                        await step.wait()
                    case BaseException():
                        raise step
                    case (
                        TextDelta()
                        | ReasoningText()
                        | Answer()
                        | Retrying()
                        | Resending()
                        | Queued()
                        | Sending()
                        | Began()
                    ):
                        yield step
        except (GeneratorExit, asyncio.CancelledError):
            self.broken_off += 1
            raise
        finally:
            self.open -= 1

    async def models(self) -> tuple[ModelInfo, ...]:
        return tuple(ModelInfo(name, name, context_length=100_000) for name in self._models)

    async def aclose(self) -> None:
        self.closed = True

    def _next_script(self) -> Script:
        at = len(self.requests)
        if at < len(self._scripts):
            return self._scripts[at]
        if self._otherwise is None:
            raise AssertionError(f"there are {len(self._scripts)} scripts; this is call {at + 1}")
        return self._otherwise


def _answer(text: str, made: tuple[ToolCall, ...], tokens: int, cost_usd: Decimal | None) -> Answer:
    return Answer(
        AssistantMessage(text, made),
        model=MODEL,
        finish_reason="tool_calls" if made else "stop",
        generation_id="gen-scripted",
        usage=Usage(prompt_tokens=10, completion_tokens=tokens),
        cost_usd=cost_usd,
        cost_source="unknown" if cost_usd is None else "upstream",
    )
