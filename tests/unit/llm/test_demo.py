"""The demo model in a conversation: one tool at a time, then the results in words."""

import asyncio
import json
from decimal import Decimal

import pytest

from actors.core.clock import SystemClock
from actors.core.errors import UnknownModel
from actors.core.messages import AssistantMessage, ToolMessage, ToolSpec, Usage, UserMessage
from actors.llm.base import Answer, ModelRequest, TextDelta
from actors.llm.demo import DemoModel
from actors.sandbox.base import Limits
from actors.testing import FakeClock
from actors.tools.toolbox import default_tools

NAMES = ("run_python", "run_shell", "read_file", "write_file", "list_files", "remember", "recall")
TOOLS = tuple(ToolSpec(name, "does it") for name in NAMES)


async def ask(*messages, tools=TOOLS, model="demo", **members) -> Answer:
    llm = DemoModel(word_delay_s=0)
    items = [item async for item in llm.stream(ModelRequest(model, messages, tools, **members))]
    text = "".join(item.text for item in items if isinstance(item, TextDelta))
    assert isinstance(items[-1], Answer)
    assert items[-1].message.content == text
    return items[-1]


async def converse(message: str, *results: str) -> tuple[list[tuple[str, dict]], str]:
    """Play a turn in which the tools answer `results`; returns the calls and the last words."""
    messages: list = [UserMessage(message)]
    calls = []
    for result in results:
        answer = await ask(*messages)
        [call] = answer.message.tool_calls
        calls.append((call.name, json.loads(call.arguments)))
        assert answer.finish_reason == "tool_calls"
        messages += [answer.message, ToolMessage(call.id, result)]
    answer = await ask(*messages)
    assert answer.message.tool_calls == ()
    assert answer.finish_reason == "stop"
    return calls, answer.message.content


@pytest.mark.parametrize(
    ("message", "tool", "result", "said"),
    [
        ("what is 2**10", "run_python", "1024", "2**10 = **1024**"),
        ("compute the 20th Fibonacci number", "run_python", "6765", "The 20th Fibonacci number is **6765**."),
        ("```python\nprint(1)\n```", "run_python", "1", "Python printed:\n\n```\n1\n```"),
        ("run `ls`", "run_shell", "a\nb", "`ls` printed:\n\n```\na\nb\n```"),
        ("read a.md", "read_file", "x\n```\ny\n```", "`a.md` holds:\n\n````\nx\n```\ny\n```\n````"),
        ('write "x" to a.md', "write_file", "Wrote 1 bytes to a.md.", "Wrote 1 bytes to a.md."),
        ("list files", "list_files", "a.md  1 bytes", "In the workspace:\n\n```\na.md  1 bytes\n```"),
        ("my name is Ana", "remember", "Remembered.", "The user's name is Ana."),
        ("what is my name?", "recall", "- 2026-01-01: The user's name is Ana.", "The user's name is Ana."),
        ("what is my name?", "recall", "Nothing was kept about this user yet.", "Nothing was kept"),
        ("run `false`", "run_shell", "(no output)\n[It ended with exit code 1.]", "`run_shell` did not succeed"),
        (
            "what is 1/0",
            "run_python",
            "Traceback…\nZeroDivisionError\n[It ended with exit code 1.]",
            "`run_python` did not succeed",
        ),
        ("list files", "list_files", "Nothing was done, because there is no sandbox now.", "did not succeed"),
        ("run `echo [x]`", "run_shell", "[x]", "`echo [x]` printed"),
    ],
)
async def test_one_tool_and_its_result_in_words(message, tool, result, said):
    [(name, _)], text = await converse(message, result)
    assert name == tool
    assert said in text


async def test_several_asks_are_done_in_order_and_told_together():
    calls, text = await converse(
        'write "hello" to notes.txt and then read notes.txt, then what is 6*7', "Wrote 5 bytes.", "hello", "42"
    )
    assert [name for name, _ in calls] == ["write_file", "read_file", "run_python"]
    assert text.index("Wrote 5 bytes.") < text.index("`notes.txt` holds") < text.index("6*7 = **42**")


async def test_call_ids_are_new_in_each_answer_of_a_session():
    first = (await ask(UserMessage("1+1"))).message
    call = first.tool_calls[0]
    later = await ask(UserMessage("1+1"), first, ToolMessage(call.id, "2"), AssistantMessage("2"), UserMessage("2+2"))
    assert later.message.tool_calls[0].id != call.id


async def test_tools_that_are_not_offered_are_not_called():
    answer = await ask(UserMessage("what is 2**10"), tools=())
    assert answer.message.tool_calls == ()
    assert "`run_python`" in answer.message.content
    assert "not offered" in answer.message.content


@pytest.mark.parametrize(
    "message", ["hello", "Olá!", "Hallo", "what can you do?", "tell me about Mars", "calculate love"]
)
async def test_it_says_what_it_is_and_what_it_can_do(message):
    text = (await ask(UserMessage(message))).message.content
    assert "demo" in text.lower()
    assert "remember that" in text


async def test_the_topic_is_echoed():
    assert "“tell me about Mars”" in (await ask(UserMessage("tell me about Mars"))).message.content


async def test_earlier_messages_can_be_asked_for():
    messages = [UserMessage("one"), AssistantMessage("1"), UserMessage("two"), AssistantMessage("2")]
    text = (await ask(*messages, UserMessage("what did I say before?"))).message.content
    assert "1. one\n2. two" in text
    assert "first message" in (await ask(UserMessage("what did I say before?"))).message.content


async def test_no_message_at_all():
    assert "demo model" in (await ask()).message.content


async def test_it_is_free_and_counts_four_bytes_a_token():
    answer = await ask(UserMessage("abcde"), tools=(ToolSpec("ab", "cd", {}),))
    assert answer.usage == Usage(2 + 2, -(-len(answer.message.content.encode()) // 4))
    assert (answer.cost_usd, answer.cost_source) == (Decimal(0), "free")


async def test_it_keeps_to_the_token_limit():
    answer = await ask(UserMessage("hello"), max_completion_tokens=10)
    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens <= 10
    answer = await ask(UserMessage("1+1"), max_completion_tokens=1)
    assert answer.message.tool_calls == ()


async def test_other_models_are_unknown_and_the_error_names_the_way():
    with pytest.raises(UnknownModel, match="API key"):
        await ask(UserMessage("hi"), model="openai/gpt-4o")


async def test_words_come_one_by_one():
    clock = FakeClock()
    stream = DemoModel(clock=clock, word_delay_s=0.5).stream(ModelRequest("demo", (UserMessage("thanks"),)))
    words = [await anext(stream)]
    for _ in range(2):
        waiting = asyncio.ensure_future(anext(stream))
        await clock.sleeping()
        assert not waiting.done()
        clock.advance(0.5)
        words.append(await waiting)
    await stream.aclose()
    assert words == [TextDelta("You "), TextDelta("are "), TextDelta("welcome.")]


async def test_a_long_text_comes_in_few_pieces():
    messages = (UserMessage("run `x`"), AssistantMessage(""), ToolMessage("c", "word " * 20_000))
    request = ModelRequest("demo", messages, TOOLS, max_completion_tokens=100_000)
    items = [item async for item in DemoModel(word_delay_s=0).stream(request)]
    assert len(items) <= 202
    assert items[-1].message.content.count("word") == 20_000


async def test_it_calls_the_real_tools_as_they_are_declared():
    tools = {tool.spec.name: tool for tool in default_tools(SystemClock(), Limits(), max_chars=1000)}
    messages = (
        "1+1",
        "run `ls`",
        "read a.md",
        "write x to a.md",
        "list files",
        "list files in d",
        "my name is A",
        "who am i",
    )
    used = set()
    for message in messages:
        [call] = (await ask(UserMessage(message), tools=tuple(tool.spec for tool in tools.values()))).message.tool_calls
        tools[call.name].arguments.model_validate_json(call.arguments)
        used.add(call.name)
    assert used == set(tools)


async def test_the_list_of_models():
    [model] = await DemoModel().models()
    assert (model.id, model.prompt_usd, model.completion_usd) == ("demo", Decimal(0), Decimal(0))
