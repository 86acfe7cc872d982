"""`greenroom model-server`: its scripts, its faults, its address and its bill."""

import inspect
import re

import httpx
import pytest
from typer.testing import CliRunner

from actors.testing import StreamingASGITransport
from actors.testing.wire_fixtures import FIXTURES
from cluster.cli import app as command_line
from cluster.model_server import model_server
from cluster.scripted_server import WrongScript, make_app


@pytest.fixture
def script(tmp_path):
    def write(text, name="script.toml"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


@pytest.fixture
def said():
    async def ask(app, message, status=200):
        async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://m.test") as client:
            body = {"model": "scripted", "messages": [{"role": "user", "content": message}]}
            response = await client.post("/v1/chat/completions", json=body)
        assert response.status_code == status
        return response.json()

    return ask


async def test_the_script_of_the_help_is_one(script, said):
    [example] = re.findall(r"```toml\n(.*?)```", inspect.getdoc(model_server), re.DOTALL)
    app = make_app(script(example))
    [call] = (await said(app, "the weather?"))["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Bonn"}'}
    await said(app, "busy", 429)
    assert (await said(app, "busy"))["choices"][0]["message"]["content"] == "Hello", "the second of the fixture"
    await said(app, "busy", 503)
    hello = await said(app, "hi")
    assert (hello["choices"][0]["message"]["content"], hello["usage"]["cost"]) == ("Hello.", 0.0001)


async def test_json_too(script, said):
    app = make_app(script('{"otherwise": {"text": "hey"}}', "script.json"))
    assert (await said(app, "hi"))["choices"][0]["message"]["content"] == "hey"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[rules]]\nmarker =", "script.toml"),
        ("replys = []", "a script has no replys"),
        ("[otherwise]\ntxt = 'a'", "a reply has no txt"),
        ("replies = [{ fixture = 'nothing' }]", "there is no fixture 'nothing'"),
        ("[[rules]]\nreplies = []", "marker"),
        ("[[rules]]\nmarker = 'a'\nby = 'luck'\nreplies = []", "by step or by call"),
        ("replies = 7", "has not the form"),
    ],
)
def test_a_script_that_is_none(script, text, why):
    with pytest.raises(WrongScript, match=re.escape(why)):
        make_app(script(text))


def test_a_script_that_is_not_there(tmp_path):
    with pytest.raises(WrongScript, match=r"none\.toml"):
        make_app(tmp_path / "none.toml")
    result = CliRunner().invoke(command_line, ["model-server", "--script", str(tmp_path / "none.toml")])
    assert (result.exit_code, "none.toml" in result.stderr) == (2, True)


async def fates(seed, rate):
    app = make_app(None, fault_rate=rate, seed=seed)
    fates = []
    async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://m.test") as client:
        for _ in range(60):
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            try:
                response = await client.post("/v1/chat/completions", json=body)
                fates.append((response.status_code, re.sub(r"gen-\d+", "", response.text)))
            except httpx.HTTPError as error:
                fates.append(type(error))
    return fates, app.bill.faults


async def test_faults_by_rate_and_seed():
    first, faults = await fates(7, 0.3)
    assert (first, faults) == await fates(7, 0.3)
    assert 8 <= faults <= 28
    assert (await fates(8, 0.3))[0] != first
    assert (await fates(7, 0))[1] == 0
    assert (await fates(7, 1))[1] == 60


def test_the_fixtures_are_listed():
    result = CliRunner().invoke(command_line, ["model-server", "--fixtures"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in FIXTURES)
