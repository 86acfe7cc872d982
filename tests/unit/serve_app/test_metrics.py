"""GET /metrics: the expositions of every process as one."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes
from serve_app.exposition import merged

# The names of the deployment guide: dashboards and alerts ask for these.
NAMES = {
    "agent_requests_total",
    "agent_tool_executions_total",
    "agent_llm_requests_total",
    "agent_request_duration_seconds_bucket",
    "agent_tool_execution_duration_seconds_bucket",
    "agent_llm_response_time_seconds_bucket",
    "agent_active_sessions",
    "agent_memory_usage_bytes",
    "agent_cost_spent_dollars",
}


@pytest.fixture
async def scraped(make_edge):
    """Samples by name, after a turn with a tool."""
    llm = ScriptedLLM([calls(("run_python", {"code": "1"})), says("Done.")])
    edge = await make_edge(llm, sandboxes=FakeSandboxes({"1": ExecResult("ok", 0, "")}))
    await edge.say("Hi")
    response = await edge.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    samples: dict[str, list] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples


@pytest.mark.parametrize("name", sorted(NAMES))
async def test_the_names_of_the_deployment_guide_are_there(scraped, name):
    assert name in scraped


async def test_every_sample_says_which_process_it_is_of(scraped):
    for samples in scraped.values():
        assert {sample.labels["process"] for sample in samples} == {"api"}


async def test_what_happened_was_counted(scraped):
    def total(name, **labels):
        return sum(s.value for s in scraped[name] if labels.items() <= s.labels.items())

    assert total("agent_requests_total", route="/api/v1/chat", status="200") >= 1
    assert total("agent_tool_executions_total", tool="run_python", outcome="ok") >= 1
    assert total("agent_llm_requests_total", model="scripted", outcome="stop") >= 1
    assert total("agent_turns_total", status="completed", stop_reason="end_turn") >= 1
    assert total("agent_active_sessions") >= 1


async def test_users_are_no_labels(scraped):
    for samples in scraped.values():
        for sample in samples:
            assert not {"user", "user_id", "session_id", "turn_id", "key"} & sample.labels.keys()


async def test_the_actors_own_numbers_stand_beside_these(make_edge):
    async def scrape() -> dict[str, bytes]:
        return {"session:0": b"# TYPE agent_active_sessions gauge\nagent_active_sessions 7.0\n"}

    edge = await make_edge(services={"scrape": scrape})

    text = (await edge.http.get("/metrics")).text

    assert 'agent_active_sessions{process="session:0"} 7.0' in text
    assert 'agent_active_sessions{process="api"}' in text
    assert text.count("# TYPE agent_active_sessions gauge") == 1


def test_merging_changes_no_value_and_no_type():
    def process(value: float) -> bytes:
        registry = CollectorRegistry()
        Counter("c", "A counter.", ["l"], registry=registry).labels('quo"te\n\\').inc(value)
        Gauge("g", "A gauge.", registry=registry).set(-value)
        histogram = Histogram("h", "A histogram.", buckets=(1, 10), registry=registry)
        histogram.observe(value)
        return generate_latest(registry)

    families = {
        family.name: family
        for family in text_string_to_metric_families(merged({"a": process(1), "b": process(20)}).decode())
    }

    assert (families["c"].type, families["g"].type, families["h"].type) == ("counter", "gauge", "histogram")
    values = {
        (sample.name, sample.labels["process"], sample.labels.get("le"), sample.labels.get("l")): sample.value
        for name in ("c", "g", "h")
        for sample in families[name].samples
    }
    assert values["c_total", "b", None, 'quo"te\n\\'] == 20
    assert values["g", "a", None, None] == -1
    assert values["h_bucket", "a", "1.0", None] == 1
    assert values["h_bucket", "b", "10.0", None] == 0
    assert values["h_bucket", "b", "+Inf", None] == 1
    assert values["h_sum", "b", None, None] == 20


def test_nothing_merged_is_an_empty_exposition():
    assert merged({}) == b""


async def test_an_actor_that_answers_nonsense_does_not_take_the_numbers_of_the_others_away(make_edge):
    async def scrape() -> dict[str, bytes]:
        return {"session:0": b"<html>", "session:1": b"# TYPE x gauge\nx 1.0\n"}

    edge = await make_edge(services={"scrape": scrape})

    response = await edge.http.get("/metrics")

    assert response.status_code == 200, response.text
    assert 'x{process="session:1"} 1.0' in response.text
