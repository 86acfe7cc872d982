"""Metrics: clients choose the names of models, and series must stay bounded."""

import pytest

from actors.core import telemetry


def test_labels_of_models_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_MODEL_LABELS", set())
    labels = {telemetry.model_label(f"model-{n}") for n in range(1000)}
    assert len(labels) == telemetry._MAX_MODEL_LABELS + 1
    assert "other" in labels
    assert telemetry.model_label("model-0") == "model-0"
    assert telemetry.model_label("model-999") == "other"


def test_the_exposition_names_what_dashboards_ask_for() -> None:
    text = telemetry.exposition().decode()
    for name in ("agent_requests", "agent_turns", "agent_active_sessions", "agent_cost_spent_dollars"):
        assert f"# TYPE {name}" in text
