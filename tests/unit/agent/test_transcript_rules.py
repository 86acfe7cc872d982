"""What providers would refuse, each found by the rules of the provider that refuses it."""

from collections.abc import Callable

import pytest

from actors.agent.transcript_rules import AnthropicRules, OpenAIRules, TranscriptRules, first_fault
from actors.core.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage

BOTH: tuple[Callable[[], TranscriptRules], ...] = (OpenAIRules, AnthropicRules)

ONE = ToolCall("id_1", "run_shell", '{"command": "ls"}')
TWO = ToolCall("id_2", "run_shell", "{}")
ASKED = (UserMessage("hi"), AssistantMessage("", (ONE, TWO)))
ANSWERED = (*ASKED, ToolMessage("id_1", "a"), ToolMessage("id_2", "b"))

GOOD: dict[str, tuple[Message, ...]] = {
    "nothing": (),
    "a system prompt": (SystemMessage("Be kind."), UserMessage("hi")),
    "text": (UserMessage("hi"), AssistantMessage("Hello."), UserMessage("bye")),
    "two users' messages": (UserMessage("one"), UserMessage("two"), AssistantMessage("Both.")),
    "calls": (*ANSWERED, AssistantMessage("Done.")),
    "results in another order": (*ASKED, ToolMessage("id_2", "b"), ToolMessage("id_1", "a")),
    "an empty result": (*ASKED, ToolMessage("id_1", ""), ToolMessage("id_2", "b")),
    "a user's message after results": (*ANSWERED, UserMessage("and?")),
}

REFUSED_BY_BOTH: dict[str, tuple[Message, ...]] = {
    "no results": ASKED,
    "one result of two": ANSWERED[:-1],
    "a user before the results": (*ASKED, UserMessage("hello?"), ToolMessage("id_1", "a"), ToolMessage("id_2", "b")),
    "an answer before the results": (*ASKED, AssistantMessage("Well."), ToolMessage("id_1", "a")),
    "a result that nobody waits for": (*ANSWERED, ToolMessage("id_3", "c")),
    "a result twice": (*ANSWERED, ToolMessage("id_1", "a")),
    "a result after the next message": (*ANSWERED[:-1], UserMessage("x"), ToolMessage("id_2", "b")),
    "an empty answer": (UserMessage("hi"), AssistantMessage("")),
    "an empty question": (UserMessage(""),),
    "arguments that are no JSON": (UserMessage("hi"), AssistantMessage("", (ToolCall("id_1", "f", "{"),))),
    "arguments that are no object": (UserMessage("hi"), AssistantMessage("", (ToolCall("id_1", "f", "[]"),))),
    "one id for two calls of an answer": (UserMessage("hi"), AssistantMessage("", (ONE, ONE))),
}

AGAIN = (UserMessage("again"), AssistantMessage("", (ONE,)), ToolMessage("id_1", "a"))
REFUSED_BY_ANTHROPIC: dict[str, tuple[Message, ...]] = {
    "a call id of an earlier answer": (*ANSWERED, *AGAIN),
    "an assistant who begins": (AssistantMessage("Hello."), UserMessage("hi")),
    "a blank answer": (UserMessage("hi"), AssistantMessage(" \n")),
    "a blank text beside calls": (UserMessage("hi"), AssistantMessage(" ", (ONE,)), ToolMessage("id_1", "a")),
    "a blank question": (UserMessage(" "),),
}

MISNAMED = ToolCall("id_1", "run shell", "{}")
REFUSED_BY_OPENAI: dict[str, tuple[Message, ...]] = {
    "a name that is none": (UserMessage("hi"), AssistantMessage("", (MISNAMED,)), ToolMessage("id_1", "a"))
}


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize("name", GOOD)
def test_what_is_taken(rules: Callable[[], TranscriptRules], name: str) -> None:
    assert first_fault(rules(), GOOD[name]) is None


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize("name", REFUSED_BY_BOTH)
def test_what_both_refuse(rules: Callable[[], TranscriptRules], name: str) -> None:
    assert first_fault(rules(), REFUSED_BY_BOTH[name]) is not None


@pytest.mark.parametrize("name", REFUSED_BY_ANTHROPIC)
def test_what_anthropic_refuses(name: str) -> None:
    assert first_fault(AnthropicRules(), REFUSED_BY_ANTHROPIC[name]) is not None
    assert first_fault(OpenAIRules(), REFUSED_BY_ANTHROPIC[name]) is None


@pytest.mark.parametrize("name", REFUSED_BY_OPENAI)
def test_what_openai_refuses(name: str) -> None:
    assert first_fault(OpenAIRules(), REFUSED_BY_OPENAI[name]) is not None
    assert first_fault(AnthropicRules(), REFUSED_BY_OPENAI[name]) is None


@pytest.mark.parametrize("rules", BOTH)
def test_a_conversation_that_goes_on_is_read_on(rules: Callable[[], TranscriptRules]) -> None:
    """In the middle of an answer nothing is wrong yet, unless it stops there."""
    reader = rules()
    assert [reader.take(message) for message in ASKED] == [None, None]
    assert reader.rest() is not None
    assert [reader.take(message) for message in ANSWERED[2:]] == [None, None]
    assert reader.rest() is None
