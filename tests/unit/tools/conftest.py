"""A context to run tools in, over doubles."""

from collections.abc import Callable
from typing import Any

import pytest

from actors.sandbox.base import Sandboxes
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.tools.base import ToolContext


@pytest.fixture
def streamed() -> list[str]:
    return []


@pytest.fixture
def make_context(streamed: list[str]) -> Callable[..., ToolContext]:
    def make(sandboxes: Sandboxes | None = None, **changes: Any) -> ToolContext:
        members = {
            "session_id": "sess_1",
            "user_id": "user_1",
            "turn_id": "turn_1",
            "tool_call_id": "call_1",
            "sandboxes": sandboxes or FakeSandboxes(),
            "memories": DictMemories(),
            "on_output": streamed.append,
            "timeout_s": 60.0,
        }
        return ToolContext(**{**members, **changes})

    return make


@pytest.fixture
def context(make_context: Callable[..., ToolContext]) -> ToolContext:
    return make_context()
