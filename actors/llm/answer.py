"""An answer put together from the chunks in which it is streamed, without I/O."""

from typing import Any

from ..core.messages import AssistantMessage
from .base import Answer, ReasoningText, TextDelta
from .failures import Cause, UpstreamFailure, of_error
from .json_values import as_list, as_object, as_piece, as_text
from .reasoning import ReasoningAssembler
from .tool_calls import IncompleteToolCall, ToolCallAssembler
from .usage import Bill, read_bill

_FINISH_REASONS = {
    "end_turn": "stop",
    "eos": "stop",
    "function_call": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
}
_CUT_SHORT = {"length", "content_filter"}
_FAILED_NATIVELY = {"network_error": Cause.BROKEN, "malformed_function_call": Cause.GARBLED}


class AnswerAssembler:
    """Chunks in, deltas out, and at the end the `Answer`. Takes a whole, unstreamed answer too.

    `feed` and `finish` raise `UpstreamFailure`. `progress` counts the chunks that brought something.
    """

    def __init__(self, model: str, *, generation_id: str | None = None) -> None:
        self.generation_id = generation_id
        self.progress = 0
        self.bill: Bill | None = None
        self._model = model
        self._provider: str | None = None
        self._finish: str | None = None
        self._native_finish: str | None = None
        self._refused = False
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._details = ReasoningAssembler()
        self._calls = ToolCallAssembler()

    @property
    def finished(self) -> bool:
        """Whether the server said that the message is whole. Usage may still follow."""
        return self._finish is not None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def feed(self, chunk: dict[str, Any]) -> list[TextDelta | ReasoningText]:
        """Take one chunk. Errors are looked at before choices, because some chunks hold both."""
        if chunk.get("error") or chunk.get("object") == "error":
            raise of_error(chunk)
        self._identify(chunk)
        usage = chunk.get("usage")
        if usage:  # null on early chunks; the last one that is not counts
            self.bill = read_bill(as_object(usage))
            self.progress += 1
        choices = as_list(chunk.get("choices"))
        return self._choose(as_object(choices[0])) if choices else []

    def finish(self) -> Answer:
        """The whole answer, after the stream ended in order."""
        finish = self._finish or "stop"
        finish = _FINISH_REASONS.get(finish, finish)
        self._raise_if_failed(finish)
        cut_short = finish in _CUT_SHORT
        try:
            # Calls of an answer that was cut short may look whole and are not to be run.
            calls = () if cut_short else self._calls.finish()
        except IncompleteToolCall as error:
            raise UpstreamFailure(Cause.GARBLED, str(error)) from error
        if calls and finish == "stop":
            finish = "tool_calls"
        elif not calls and finish == "tool_calls":
            finish = "stop"
        bill = self.bill or Bill()
        return Answer(
            AssistantMessage(self.text, calls, () if cut_short else self._details.finish()),
            model=self._model,
            finish_reason="content_filter" if self._refused else finish,
            native_finish_reason=self._native_finish,
            provider=self._provider,
            generation_id=self.generation_id,
            reasoning="".join(self._reasoning) or None,
            usage=bill.usage,
            cost_usd=bill.cost_usd,
            cost_source="unknown" if bill.cost_usd is None else "upstream",
        )

    def _identify(self, chunk: dict[str, Any]) -> None:
        if self.generation_id is None:
            self.generation_id = as_text(chunk.get("id")) or None
        self._model = as_text(chunk.get("model")) or self._model
        self._provider = as_text(chunk.get("provider")) or self._provider

    def _choose(self, choice: dict[str, Any]) -> list[TextDelta | ReasoningText]:
        items = self._take(as_object(choice.get("delta") or choice.get("message")))
        if choice.get("error"):
            raise of_error(choice)
        finish = as_text(choice.get("finish_reason"))
        if finish:
            self._finish = finish
            self._native_finish = as_text(choice.get("native_finish_reason")) or self._native_finish
            self.progress += 1
        return items

    def _take(self, delta: dict[str, Any]) -> list[TextDelta | ReasoningText]:
        items: list[TextDelta | ReasoningText] = []
        details = delta.get("reasoning_details")
        shown = self._details.feed(details) if details else ""
        reasoning = as_piece(delta.get("reasoning") or delta.get("reasoning_content")) or shown
        if reasoning:
            self._reasoning.append(reasoning)
            items.append(ReasoningText(reasoning))
        text = _content(delta.get("content"))
        refusal = delta.get("refusal")
        if refusal:
            self._refused = True
            text += as_piece(refusal)
        if text:
            self._text.append(text)
            items.append(TextDelta(text))
        calls = delta.get("tool_calls")
        for fragment in as_list(calls):
            self._calls.feed(as_object(fragment))
        if items or details or calls:
            self.progress += 1
        return items

    def _raise_if_failed(self, finish: str) -> None:
        if finish == "error":
            raise UpstreamFailure(Cause.BROKEN, "it ended its answer with an error")
        native = (self._native_finish or "").lower()
        if native in _FAILED_NATIVELY:
            raise UpstreamFailure(_FAILED_NATIVELY[native], f"the provider ended with {self._native_finish}")
        if not self._text and not self._calls and self.bill is None and finish != "content_filter":
            raise UpstreamFailure(Cause.GARBLED, "the answer is empty and without usage")


def _content(content: Any) -> str:
    """Text, or the text parts of a list of parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(as_piece(as_object(part).get("text")) for part in as_list(content))
