"""Checks before a session hears of a request, when what they ask does not answer."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from serve_app import admission


async def test_a_list_of_models_that_does_not_come_holds_no_request_up(monkeypatch):
    monkeypatch.setattr(admission, "_MODELS_S", 0.01)
    asked = asyncio.Event()

    async def silent() -> Any:
        asked.set()
        await asyncio.Event().wait()

    services = cast("Any", SimpleNamespace(llm=SimpleNamespace(models=silent)))
    async with asyncio.timeout(5):
        await admission.check_model(services, "any")
    assert asked.is_set()
