"""What a model is told, word by word: a change here changes how every model behaves."""

from actors.core.messages import ToolSpec
from actors.sandbox.base import Limits
from actors.testing import FakeClock
from actors.tools.toolbox import default_tools

LIMITS = "Limits: 300 s, 512 MB of memory, 0.5 CPU, 64 processes, 256 MB of files, 1 MB of output."


def object_schema(properties: dict, *required: str) -> dict:
    schema = {"additionalProperties": False, "properties": properties, "type": "object"}
    return {**schema, "required": list(required)} if required else schema


EXPECTED = (
    ToolSpec(
        "run_python",
        "Run a Python program in this session's sandbox and get what it printed (stdout and stderr together). "
        "Every call is a fresh interpreter, unless you set `keep`. It starts in the workspace folder, where files "
        "stay from call to call while the session is active. There is no network, so nothing can be downloaded or "
        "installed; the standard library is there. Standard input is empty. " + LIMITS,
        object_schema(
            {
                "code": {"description": "The program's source. Print what you want to see.", "type": "string"},
                "keep": {
                    "default": False,
                    "description": "Run it in an interpreter that lasts, where variables stay for the next call that "
                    "sets `keep`. They are gone when it exits or is stopped.",
                    "type": "boolean",
                },
            },
            "code",
        ),
    ),
    ToolSpec(
        "run_shell",
        "Run a command with `sh -c` in this session's sandbox and get its output (stdout and stderr together). "
        "Every call starts in the workspace folder with a fresh environment; files there stay from call to call "
        "while the session is active, processes do not. There is no network and no root. A policy decides which "
        "programs may run; a refusal says why. Standard input is empty. " + LIMITS,
        object_schema(
            {
                "command": {
                    "description": "A command line for sh, e.g. `wc -l *.csv | sort -n`.",
                    "type": "string",
                }
            },
            "command",
        ),
    ),
    ToolSpec(
        "read_file",
        "Read a UTF-8 text file of the workspace. A long file comes in slices: the answer's last line says which\n"
        "offset to go on from. Of a binary file only the size is told; use run_python to look into it.",
        object_schema(
            {
                "path": {"description": "Path relative to the workspace.", "type": "string"},
                "offset": {"default": 0, "description": "Byte to start from.", "minimum": 0, "type": "integer"},
                "max_bytes": {
                    "default": 15900,
                    "description": "Bytes to read.",
                    "maximum": 15900,
                    "minimum": 1,
                    "type": "integer",
                },
            },
            "path",
        ),
    ),
    ToolSpec(
        "write_file",
        "Write a UTF-8 text file to the workspace. A file that is there already is replaced.",
        object_schema(
            {
                "path": {
                    "description": "Path relative to the workspace. Missing folders are made.",
                    "type": "string",
                },
                "content": {"description": "The whole new content.", "type": "string"},
            },
            "path",
            "content",
        ),
    ),
    ToolSpec(
        "list_files",
        "List the files and folders of the workspace, or of one folder in it, with all that is below.",
        object_schema(
            {"path": {"default": ".", "description": "A folder, relative to the workspace.", "type": "string"}}
        ),
    ),
    ToolSpec(
        "remember",
        "Keep a fact about the user for later sessions. Use it for what will matter again: names, preferences,\n"
        "decisions, plans. Do not keep passwords or other secrets, nor what only this conversation needs.",
        object_schema(
            {
                "text": {
                    "description": "One fact as a whole sentence that is understood alone, "
                    "e.g. `Ana's dog is called Rex.`",
                    "maxLength": 4000,
                    "minLength": 1,
                    "type": "string",
                }
            },
            "text",
        ),
    ),
    ToolSpec(
        "recall",
        "Search the facts that were kept about this user, in this and in earlier sessions, by meaning. The nearest\n"
        "come first; they come even when nothing fits well, so judge whether they answer. Other users' facts are\n"
        "never found.",
        object_schema(
            {
                "query": {"description": "What to look for, in any language.", "minLength": 1, "type": "string"},
                "limit": {
                    "default": 5,
                    "description": "How many facts to get.",
                    "maximum": 20,
                    "minimum": 1,
                    "type": "integer",
                },
            },
            "query",
        ),
    ),
)


def test_the_model_is_told_exactly_this():
    tools = default_tools(FakeClock(), Limits(), max_chars=16_000)
    assert tuple(tool.spec for tool in tools) == EXPECTED


def test_the_model_is_told_the_operators_limits():
    tools = default_tools(FakeClock(), Limits(memory_bytes=2**30, cpus=2, command_s=12.5), max_chars=16_000)
    for tool in tools[:2]:
        assert "Limits: 12.5 s, 1024 MB of memory, 2 CPU," in tool.spec.description
