"""What providers take as a conversation: Chat Completions (OpenAI) and Messages (Anthropic).

Each set of rules reads a conversation message by message, so that one that grows is not read again and
again. `take` and `rest` return what a provider would complain of, in words, or None.
"""

import json
import re
from collections.abc import Iterable
from typing import Protocol

from ..core.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage

_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class TranscriptRules(Protocol):
    def take(self, message: Message) -> str | None:
        """Read the next message."""
        ...

    def rest(self) -> str | None:
        """What is wrong with a conversation that stops here, though each message was right where it stands."""
        ...


class OpenAIRules:
    """Each call of an assistant message is answered once, directly after it; no message is empty."""

    def __init__(self) -> None:
        self._open: list[str] = []

    def take(self, message: Message) -> str | None:
        if isinstance(message, ToolMessage):
            return self._answered(message)
        fault = f"a message of {_speaker(message)} before the results of {self._open}" if self._open else None
        self._open = []
        if isinstance(message, AssistantMessage):
            self._open = [call.id for call in message.tool_calls]
            fault = fault or self._of_assistant(message)
        elif not message.content:
            fault = fault or f"an empty message of {_speaker(message)}"
        return fault

    def rest(self) -> str | None:
        return f"no results of {self._open}" if self._open else None

    def _answered(self, message: ToolMessage) -> str | None:
        if message.tool_call_id not in self._open:
            return f"a result for {message.tool_call_id}, which nobody waits for"
        self._open.remove(message.tool_call_id)
        return None

    def _of_assistant(self, message: AssistantMessage) -> str | None:
        if not (message.content or message.tool_calls):
            return "an empty assistant message"
        if len(set(self._open)) != len(self._open):
            return f"one id for two calls: {self._open}"
        misnamed = next((c.name for c in message.tool_calls if not _FUNCTION_NAME.fullmatch(c.name)), None)
        if misnamed is not None:
            return f"{misnamed!r} is no function name"
        return _unreadable(message.tool_calls)


class AnthropicRules:
    """The user begins, results stand in the very next user turn, ids are unique, no text is blank."""

    def __init__(self) -> None:
        self._begun = False
        self._used: set[str] = set()
        self._open: set[str] = set()

    def take(self, message: Message) -> str | None:
        if isinstance(message, SystemMessage):
            return None
        fault = None if self._begun or isinstance(message, UserMessage) else "the user does not begin"
        self._begun = True
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in self._open:
                return fault or f"a tool_result for {message.tool_call_id}, which is no open tool_use"
            self._open.remove(message.tool_call_id)
            return fault
        if self._open:
            fault = fault or f"no tool_result of {sorted(self._open)} in the next user turn"
            self._open = set()
        if isinstance(message, UserMessage):
            return fault or (None if message.content.strip() else "a text block of the user without text")
        return fault or self._of_assistant(message)

    def rest(self) -> str | None:
        return f"no tool_result of {sorted(self._open)}" if self._open else None

    def _of_assistant(self, message: AssistantMessage) -> str | None:
        fault = None
        if not message.content.strip() and (message.content or not message.tool_calls):
            fault = "a text block of the assistant without text"
        for call in message.tool_calls:
            if call.id in self._used:
                fault = fault or f"tool_use id {call.id} stands twice in the conversation"
            self._used.add(call.id)
            self._open.add(call.id)
        return fault or _unreadable(message.tool_calls)


def first_fault(rules: TranscriptRules, messages: Iterable[Message]) -> str | None:
    """What is wrong with a whole conversation, or None."""
    for message in messages:
        if (fault := rules.take(message)) is not None:
            return fault
    return rules.rest()


def _unreadable(calls: tuple[ToolCall, ...]) -> str | None:
    for call in calls:
        try:
            is_object = isinstance(json.loads(call.arguments), dict)
        except ValueError:
            is_object = False
        if not is_object:
            return f"the arguments of {call.id} are no JSON object"
    return None


def _speaker(message: Message) -> str:
    return type(message).__name__.removesuffix("Message").lower()
