"""`greenroom exec` and `greenroom files` against an API that is scripted: what is sent, shown and returned."""

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from cluster import workspace
from cluster.cli import app
from serve_app.client import Client

runner = CliRunner()


@pytest.fixture
def asked():
    return []


@pytest.fixture
def answering(monkeypatch, asked):
    """Every call is answered with this; `asked` is what was sent."""

    def make(answer):
        def respond(request):
            asked.append(request)
            return answer

        transport = httpx.MockTransport(respond)
        monkeypatch.setattr(workspace.Door, "open", lambda _: Client("http://test", "key", transport=transport))

    return make


def ended(output="", **members):
    result = {"type": "result", "verdict": "ok", "exit_code": 0, "output": output, "truncated": False, "wall_s": 0.1}
    result |= {"output_bytes": len(output), "cpu_s": None, "peak_memory_bytes": None, "variables": None}
    frames = [{"type": "output", "offset": 0, "text": output}] if output else []
    frames.append({**result, **members})
    text = "".join(f"event: {frame['type']}\ndata: {json.dumps(frame)}\n\n" for frame in frames)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


def problem(status, code):
    return httpx.Response(status, json={"code": code, "detail": f"it is {code}", "title": "x"})


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["wc", "-l", "my file"], {"command": "wc -l 'my file'"}),
        (["sort x | uniq -c"], {"command": "sort x | uniq -c"}),
        (["--python", "print(1)"], {"python": "print(1)", "keep": False}),
        (["--python", "--keep", "x = 1"], {"python": "x = 1", "keep": True}),
        (["--keep", "x = 1"], {"python": "x = 1", "keep": True}),
        (["--timeout", "5", "ls"], {"command": "ls", "timeout_s": 5.0}),
    ],
)
def test_a_command_is_sent_as_it_was_written(answering, asked, words, sent):
    answering(ended("42\n"))
    options, rest = (words[:-1], words[-1:]) if words[0].startswith("--") else ([], words)
    result = runner.invoke(app, ["exec", *options, "sess_1", "--", *rest])
    assert (result.exit_code, result.stdout) == (0, "42\n")
    (request,) = asked
    assert request.url.path == "/api/v1/sessions/sess_1/exec"
    assert json.loads(request.content) == {**sent, "stream": True}


@pytest.mark.parametrize(
    ("members", "code", "said"),
    [
        ({"verdict": "nonzero", "exit_code": 3}, 3, ""),
        ({"verdict": "policy", "exit_code": None, "output": "not allowed: nc"}, 126, "not allowed: nc"),
        ({"verdict": "timeout", "exit_code": 137}, 124, "too long"),
        ({"verdict": "oom", "exit_code": 137}, 1, "oom"),
    ],
)
def test_the_exit_code_is_the_commands_own(answering, members, code, said):
    answering(ended(**members))
    result = runner.invoke(app, ["exec", "sess_1", "--", "nc"])
    assert result.exit_code == code
    assert said in result.stderr


def test_what_it_took_is_said_when_asked_for(answering):
    counted = {"output_bytes": 1234567, "cpu_s": 0.25, "peak_memory_bytes": 3 * 2**20, "variables": "gone"}
    answering(ended("x", truncated=True, **counted))
    result = runner.invoke(app, ["exec", "--usage", "sess_1", "--", "ls"])
    assert result.stdout == "x"
    assert result.stderr.splitlines() == [
        "This is not all: it printed 1,234,567 bytes.",
        "The interpreter ended, and its variables are gone.",
        "ok: 0.1 s, 0.25 s of processor, 3.0 MiB of memory, 1,234,567 bytes printed, variables: gone",
    ]


def test_what_nobody_counted_is_not_said(answering):
    answering(ended("x"))
    result = runner.invoke(app, ["exec", "--usage", "sess_1", "--", "ls"])
    assert result.stderr == "ok: 0.1 s, 1 bytes printed\n"


def test_a_listing_shows_sizes_and_says_when_it_is_cut(answering):
    data = [
        {"path": "a", "type": "folder", "size_bytes": 0},
        {"path": "a/\x1b[2Jb", "type": "file", "size_bytes": 12345},
    ]
    answering(httpx.Response(200, json={"object": "list", "data": data, "truncated": True}))
    result = runner.invoke(app, ["files", "ls", "sess_1"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["                 a/", "         12,345  a/\ufffd[2Jb"]
    assert "These 2 are not all" in result.stderr


def test_a_file_is_fetched_and_none_is_overwritten_by_mistake(answering, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answering(httpx.Response(200, content=b"\x00\xff"))
    assert runner.invoke(app, ["files", "get", "sess_1", "a/x.bin"]).exit_code == 0
    assert Path("x.bin").read_bytes() == b"\x00\xff"
    Path("x.bin").write_bytes(b"mine")
    again = runner.invoke(app, ["files", "get", "sess_1", "a/x.bin"])
    assert (again.exit_code, Path("x.bin").read_bytes()) == (1, b"mine")
    assert "here already" in again.stderr
    assert runner.invoke(app, ["files", "get", "sess_1", "a/x.bin", "x.bin"]).exit_code == 0
    assert Path("x.bin").read_bytes() == b"\x00\xff"
    assert runner.invoke(app, ["files", "get", "sess_1", "a/x.bin", "-"]).stdout_bytes == b"\x00\xff"


def test_a_file_is_put_under_its_own_name_or_another(answering, asked, tmp_path):
    answering(httpx.Response(204))
    file = tmp_path / "a b.txt"
    file.write_bytes(b"hello")
    assert runner.invoke(app, ["files", "put", "sess_1", str(file)]).exit_code == 0
    assert runner.invoke(app, ["files", "put", "sess_1", "-", "in/x"], input=b"piped").exit_code == 0
    assert runner.invoke(app, ["files", "put", "sess_1", "-"]).exit_code == 1
    assert [(r.method, r.url.raw_path, r.content) for r in asked] == [
        ("PUT", b"/api/v1/sessions/sess_1/files/a%20b.txt", b"hello"),
        ("PUT", b"/api/v1/sessions/sess_1/files/in/x", b"piped"),
    ]


def test_a_file_is_removed(answering, asked):
    answering(httpx.Response(204))
    assert runner.invoke(app, ["files", "rm", "sess_1", "a"]).exit_code == 0
    assert runner.invoke(app, ["files", "rm", "-r", "sess_1", "a"]).exit_code == 0
    assert [(r.method, r.url.raw_path) for r in asked] == [
        ("DELETE", b"/api/v1/sessions/sess_1/files/a"),
        ("DELETE", b"/api/v1/sessions/sess_1/files/a?recursive=true"),
    ]


@pytest.mark.parametrize("words", [["exec", "s", "ls"], ["files", "ls", "s"], ["files", "rm", "s", "x"]])
def test_what_went_wrong_is_one_line(answering, words):
    answering(problem(404, "session_not_found"))
    result = runner.invoke(app, words)
    assert (result.exit_code, result.stderr) == (1, "it is session_not_found\n")
