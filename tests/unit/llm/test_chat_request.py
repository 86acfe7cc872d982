"""What is sent, and where servers differ."""

import json
from decimal import Decimal

import pytest

from actors.core.messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, ToolSpec, UserMessage
from actors.llm.base import ModelRequest
from actors.llm.chat_request import ChatDialect, encode_request

REQUEST = ModelRequest(
    "vendor/m",
    (
        SystemMessage("Be brief."),
        UserMessage("17 * 23? é\u2028"),
        AssistantMessage(
            "", (ToolCall("a", "f", '{"x": 1}'),), ({"type": "reasoning.text", "text": "hm", "index": 0},)
        ),
        ToolMessage("a", "391"),
        AssistantMessage("391"),
    ),
    tools=(ToolSpec("f", "Does it.", {"type": "object", "properties": {"x": {}}}), ToolSpec("g", "No parameters.")),
    max_completion_tokens=777,
    session_ref="s-1",
    user_ref="u-1",
)


def encoded(dialect: ChatDialect, request: ModelRequest = REQUEST) -> dict:
    return json.loads(encode_request(request, dialect))


def test_messages_and_tools():
    body = encoded(ChatDialect())
    assert body["model"] == "vendor/m"
    assert body["stream"] is True
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "17 * 23? é\u2028"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
            "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "391"},
        {"role": "assistant", "content": "391"},
    ]
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f", "g"]
    assert body["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_openrouter_gets_its_own_members():
    body = encoded(ChatDialect.of("https://openrouter.ai/api/v1"))
    assert (body["max_completion_tokens"], body["session_id"], body["user"]) == (777, "s-1", "u-1")
    assert "stream_options" not in body
    assert "max_tokens" not in body


def test_other_servers_get_nothing_that_they_might_refuse():
    body = encoded(ChatDialect.of("http://localhost:11434/v1"))
    assert body["max_tokens"] == 777
    assert body["stream_options"] == {"include_usage": True}
    assert not body.keys() & {"session_id", "user", "max_completion_tokens"}


def test_the_limits_name_can_be_chosen():
    assert encoded(ChatDialect.of("https://api.openai.com/v1", "max_completion_tokens"))["max_completion_tokens"] == 777


@pytest.mark.parametrize(
    "url", ["https://notopenrouter.ai/v1", "https://openrouter.ai.evil.test/v1", "http://127.0.0.1/v1"]
)
def test_openrouter_is_known_by_its_host_alone(url):
    assert not ChatDialect.of(url).gateway_members


def test_no_tools_no_member():
    assert "tools" not in encoded(ChatDialect(), ModelRequest("m", (UserMessage("x"),)))


def test_what_cannot_be_encoded_is_replaced():
    body = encoded(ChatDialect(), ModelRequest("m", (UserMessage("a\ud800b"),)))
    assert body["messages"][0]["content"] == "a?b"


def test_fractions_that_came_from_the_server_go_back_as_numbers():
    details = ({"type": "reasoning.text", "score": Decimal("0.5")},)
    body = encoded(ChatDialect(), ModelRequest("m", (AssistantMessage("x", (), details),)))
    assert body["messages"][0]["reasoning_details"][0]["score"] == 0.5
