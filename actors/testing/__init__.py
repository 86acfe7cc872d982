"""Test doubles that are shipped: a clock that stands still, ids that count, models that follow a script."""

from .asgi import StreamingASGITransport
from .clock import FakeClock
from .ids import sequential_ids
from .llm import ScriptedLLM, calls, says
from .model_app import Rule, ScriptedModelApp
from .reply import CallTool, Reply

__all__ = [
    "CallTool",
    "FakeClock",
    "Reply",
    "Rule",
    "ScriptedLLM",
    "ScriptedModelApp",
    "StreamingASGITransport",
    "calls",
    "says",
    "sequential_ids",
]
