"""The table of models: every implementation of `LLM`, with the messages that make it do the same things."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest

from actors.core.errors import ModelUnavailable
from actors.core.messages import ToolSpec, UserMessage
from actors.llm.base import LLM, ModelRequest, StreamItem, TextDelta
from actors.llm.deadlines import Timeouts
from actors.llm.demo import DemoModel
from actors.llm.openai import OpenAIClient
from actors.testing import ScriptedLLM, ScriptedModelApp, StreamingASGITransport, calls, says

TOOL = ToolSpec("run_python", "Runs Python.", {"type": "object", "properties": {"code": {"type": "string"}}})


@dataclass(frozen=True)
class Row:
    """A model, and what to say to it to get the answer that a test is about."""

    HELLO: ClassVar = "hello"
    COMPUTE: ClassVar = "what is 6*7"
    SLOW: ClassVar = "what can you do?"
    BREAK: ClassVar = "break off"

    llm: LLM

    def request(self, said: str, *, model: str = "") -> ModelRequest:
        return ModelRequest(model, (UserMessage(said),), (TOOL,), session_ref="s", user_ref="u")

    async def collect(self, said: str, *, model: str = "") -> list[StreamItem]:
        async with asyncio.timeout(20):
            return [item async for item in self.llm.stream(self.request(said, model=model))]


COMPUTED = {"tool_calls": [{"name": "run_python", "arguments": {"code": "print(6*7)"}}]}
SCRIPT = {
    "models": ["scripted"],
    "rules": [
        {"marker": Row.COMPUTE, "replies": [COMPUTED]},
        {"marker": Row.SLOW, "replies": [{"text": ["word "] * 50, "gap_s": 0.2}]},
        {"marker": Row.BREAK, "replies": [{"text": ["so", " far"], "cut_after": 3, "ending": "reset"}]},
    ],
}


class ByMessage(ScriptedLLM):
    """Scripts by what the user said, as the server's rules do it."""

    def _next_script(self):
        said = self.asked.messages[-1].content
        if said == Row.COMPUTE:
            return calls(("run_python", {"code": "print(6*7)"}))
        if said == Row.SLOW:
            return [TextDelta("word "), asyncio.Event()]
        if said == Row.BREAK:
            return [TextDelta("so"), TextDelta(" far"), ModelUnavailable(partial="so far", generation_id="gen-1")]
        return says("Hello", " there")

    def stream(self, request):
        self.asked = request
        return super().stream(request)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory) -> Iterator[str]:
    """The scripted model server as a process of its own."""
    script = tmp_path_factory.mktemp("model") / "script.json"
    script.write_text(json.dumps(SCRIPT))
    command = [sys.executable, "-m", "actors.testing.model_server", "--script", str(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), "the server did not start"
        yield url
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def _client(base_url: str, **options) -> OpenAIClient:
    timeouts = Timeouts(connect_s=5, first_token_s=20, idle_s=20, total_s=60)
    return OpenAIClient(base_url=base_url, default_model="scripted", timeouts=timeouts, **options)


MAKERS: dict[str, Callable[[pytest.FixtureRequest], Row]] = {
    "demo": lambda _: Row(DemoModel(word_delay_s=0.002)),
    "scripted": lambda _: Row(ByMessage()),
    "openai in process": lambda _: Row(
        _client("http://model.test/v1", transport=StreamingASGITransport(ScriptedModelApp.from_json(SCRIPT)))
    ),
    "openai over http": lambda request: Row(_client(request.getfixturevalue("server_url"))),
}


@pytest.fixture(params=MAKERS)
async def row(request: pytest.FixtureRequest) -> AsyncIterator[Row]:
    made = MAKERS[request.param](request)
    yield made
    await made.llm.aclose()


@pytest.fixture(params=[name for name in MAKERS if name != "demo"])
async def breaking_row(request: pytest.FixtureRequest) -> AsyncIterator[Row]:
    made = MAKERS[request.param](request)
    yield made
    await made.llm.aclose()
