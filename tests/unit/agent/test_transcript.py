"""What models get to read is what every provider takes, whatever a model said before."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.core.messages import AssistantMessage, ToolCall, UserMessage
from actors.llm.base import Answer, TextDelta
from actors.testing import ScriptedLLM, calls, says


async def second_request(world: Any, *first: Any) -> tuple[Any, ...]:
    """What the model reads after it answered so."""
    llm = ScriptedLLM([*first, says("next")], models=("scripted", "other"))
    host = world.host(llm)
    await host.chat(world.submit("one"), wait_s=5)
    await host.chat(world.submit("two"), wait_s=5)
    return llm.requests[-1].messages


@pytest.mark.parametrize("blank", ["", " ", "\n\n"])
async def test_a_blank_answer_is_no_message(world: Any, blank: str, check_anthropic: Callable[..., None]) -> None:
    messages = await second_request(world, says(blank))
    assert messages[1:] == (UserMessage("one"), UserMessage("two"))
    check_anthropic(messages)


@pytest.mark.parametrize("blank", ["", " ", "\n\n"])
async def test_a_blank_text_beside_calls_is_left_out(
    world: Any, blank: str, check_anthropic: Callable[..., None]
) -> None:
    messages = await second_request(world, calls(("run_shell", {"command": "ls"}), text=blank), says("ok"))
    assert isinstance(messages[2], AssistantMessage)
    assert messages[2].content == ""
    check_anthropic(messages)


async def test_calls_that_every_answer_counts_from_one_get_ids_of_their_own(
    world: Any, check_anthropic: Callable[..., None], check_openai: Callable[..., None]
) -> None:
    """Anthropic and Mistral refuse a conversation in which an id stands twice, be it turns apart."""
    look = calls(("run_shell", {"command": "ls"}), ("run_shell", {"command": "pwd"}))
    messages = await second_request(world, look, look, says("ok"), look)
    ids = [call.id for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls]
    assert (len(ids), len(set(ids))) == (6, 6)
    check_openai(messages)
    check_anthropic(messages)


@pytest.mark.parametrize("name", ["run shell", "functions.run_shell", "läuft", "x" * 65, ""])
async def test_an_invented_tool_name_does_not_spoil_the_conversation(
    world: Any, name: str, check_openai: Callable[..., None]
) -> None:
    """Providers take function names of letters, digits, _ and - only, in what was said before too."""
    call = ToolCall("id_1", name, "{}")
    answer = Answer(AssistantMessage("", (call,)), "scripted", "tool_calls")
    messages = await second_request(world, [answer], says("sorry"))
    check_openai(messages)


async def test_reasoning_goes_back_to_the_model_that_it_came_from_and_to_no_other(world: Any) -> None:
    details = ({"type": "reasoning.encrypted", "data": "sealed by `scripted`"},)
    thought = Answer(AssistantMessage("I thought.", (), details), "scripted", "stop")
    llm = ScriptedLLM([[thought], says("same"), says("other")], models=("scripted", "other"))
    host = world.host(llm)
    await host.chat(world.submit("one"), wait_s=5)
    await host.chat(world.submit("two"), wait_s=5)
    await host.chat(world.submit("three", model="other"), wait_s=5)
    same, other = ([m for m in request.messages if isinstance(m, AssistantMessage)] for request in llm.requests[1:])
    assert same[0].reasoning_details == details
    assert other[0].reasoning_details == (), "a provider refuses what another one has signed"


async def test_half_a_character_from_a_model_spoils_nothing(world: Any) -> None:
    """Some servers cut a surrogate pair in two; no database takes such text, and no provider."""
    host = world.host(
        ScriptedLLM([[*map(TextDelta, ("ha\ud83d", "\ude00!")), *says("ha\ud83d\ude00!")[-1:]], says("ok")])
    )
    result = await host.chat(world.submit(), wait_s=5)
    assert result.status == "completed"
    result.message.encode()
    assert (await host.chat(world.submit(), wait_s=5)).message == "ok"


async def test_what_broke_off_is_a_message_of_its_own(
    world: Any, until: Callable[..., Any], check_anthropic: Callable[..., None]
) -> None:
    llm = ScriptedLLM([[TextDelta("half"), asyncio.Event()], says("whole")])
    host = world.host(llm)
    command = world.submit("one")
    await host.submit(command)
    await until(lambda: llm.open == 1)
    await host.cancel("sess_1", "user_1", command.turn_id)
    await host.chat(world.submit("two"), wait_s=5)
    assert llm.requests[1].messages[1:] == (
        UserMessage("one"),
        AssistantMessage("half", model="scripted"),
        UserMessage("two"),
    )
    check_anthropic(llm.requests[1].messages)


async def test_the_system_prompt_is_the_sessions_own_else_the_configured_one(world: Any) -> None:
    from actors.agent.sessions import NewSession

    llm = ScriptedLLM(otherwise=says("ok"))
    host = world.host(llm, system_prompt="Configured.")
    await host.chat(world.submit(session_id="sess_1"), wait_s=5)
    await host.chat(world.submit(session_id="sess_2", new=NewSession("scripted", "Mine.")), wait_s=5)
    assert [request.messages[0].content for request in llm.requests] == ["Configured.", "Mine."]
