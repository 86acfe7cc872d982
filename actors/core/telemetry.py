"""Every metric that Greenroom exposes, with bounded labels, and the log set-up.

Names follow the project's deployment guide. Users are no labels: money by user is in SQL.
"""

import logging
import resource
import sys
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from structlog.tracebacks import ExceptionDictTransformer

REGISTRY = CollectorRegistry()

REQUESTS = Counter("agent_requests_total", "HTTP requests.", ["route", "method", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "agent_request_duration_seconds",
    "Time of HTTP requests, streams left out.",
    ["method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60),
    registry=REGISTRY,
)
TURNS = Counter("agent_turns_total", "Turns that ended.", ["status", "stop_reason"], registry=REGISTRY)
TURN_SECONDS = Histogram(
    "agent_turn_duration_seconds",
    "Time from accepting a message to the end of its turn.",
    ["status"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
TOOL_EXECUTIONS = Counter(
    "agent_tool_executions_total", "Tool calls that ended.", ["tool", "outcome"], registry=REGISTRY
)
TOOL_SECONDS = Histogram(
    "agent_tool_execution_duration_seconds",
    "Time of tool calls.",
    ["tool"],
    buckets=(0.005, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60),
    registry=REGISTRY,
)
SANDBOX_ACQUIRED = Counter(
    "agent_sandbox_acquired_total",
    "Sandboxes that sessions were given, by warm: hit or miss.",
    ["warm"],
    registry=REGISTRY,
)
SANDBOX_ACQUIRE_SECONDS = Histogram(
    "agent_sandbox_acquire_seconds",
    "Time from having a place to having a sandbox in it.",
    ["warm"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
    registry=REGISTRY,
)
SANDBOX_SPAWN_FAILURES = Counter(
    "agent_sandbox_spawn_failures_total", "Sandboxes that could not be made.", ["cause"], registry=REGISTRY
)
SANDBOX_LEASED = Gauge("agent_sandbox_leased", "Sessions that have a place for a sandbox here.", registry=REGISTRY)
SANDBOX_WAITING = Gauge("agent_sandbox_waiting", "Sessions that wait for a place here.", registry=REGISTRY)
SANDBOX_ENDED = Counter(
    "agent_sandbox_leases_ended_total",
    "Leases that ended, by reason: released, idle, age, room (for one that waited), lost.",
    ["reason"],
    registry=REGISTRY,
)
POLICY_DECISIONS = Counter(
    "agent_policy_decisions_total",
    "What the policy let through and what it refused.",
    ["action", "decision", "rule"],
    registry=REGISTRY,
)
EGRESS_CONNECTIONS = Counter(
    "agent_egress_connections_total",
    "Connections that code in sandboxes asked for.",
    ["decision", "rule"],
    registry=REGISTRY,
)
EGRESS_BYTES = Counter("agent_egress_bytes_total", "Bytes through those.", ["direction"], registry=REGISTRY)
LLM_REQUESTS = Counter(
    "agent_llm_requests_total", "Model calls that ended.", ["model", "provider", "outcome"], registry=REGISTRY
)
LLM_SECONDS = Histogram(
    "agent_llm_response_time_seconds",
    "Time from sending a model call to the end of its answer.",
    ["model"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 30, 60),
    registry=REGISTRY,
)
LLM_FIRST_TOKEN_SECONDS = Histogram(
    "agent_llm_time_to_first_token_seconds",
    "Time from sending a model call to its first piece of text.",
    ["model"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
    registry=REGISTRY,
)
LLM_BREAKER_STATE = Gauge(
    "agent_llm_breaker_state",
    "Breakers of model calls: 0 lets all through, 1 one at a time, 2 none.",
    ["scope", "name"],
    registry=REGISTRY,
)
LLM_CALLS_RUNNING = Gauge("agent_llm_calls_running", "Model calls that hold a slot.", registry=REGISTRY)
LLM_CALLS_WAITING = Gauge("agent_llm_calls_waiting", "Model calls that wait for a slot.", registry=REGISTRY)
MODEL_LIST_READ = Gauge(
    "agent_llm_price_list_read_timestamp_seconds",
    "When the model server's list, with its prices, was read last.",
    registry=REGISTRY,
)
# A gauge by name only, as the deployment guide has it: it never falls within a process.
COST_DOLLARS = Gauge("agent_cost_spent_dollars", "Known cost of model calls.", ["model", "kind"], registry=REGISTRY)
COST_DRIFT_DOLLARS = Gauge(
    "agent_cost_drift_dollars",
    "What the model server's meter says above our ledger, of this day and this month (UTC).",
    ["window"],
    registry=REGISTRY,
)
BUDGET_THRESHOLDS = Counter(
    "agent_budget_thresholds_fired_total",
    "Thresholds of budgets that were reached, each once for a user and a window.",
    ["window", "severity"],
    registry=REGISTRY,
)
BUDGET_REMAINING = Histogram(
    "agent_budget_remaining_ratio",
    "What was left of a user's limit, as a share of it, when a message came.",
    ["window"],
    buckets=(0, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 1),
    registry=REGISTRY,
)
BUDGET_WEBHOOKS = Counter(
    "agent_budget_webhook_deliveries_total", "Tries to tell the webhook.", ["outcome"], registry=REGISTRY
)
ACTIVE_SESSIONS = Gauge("agent_active_sessions", "Sessions resident in this process.", registry=REGISTRY)
RUNNING_TURNS = Gauge("agent_running_turns", "Turns running in this process.", registry=REGISTRY)
ACTIVATION_SECONDS = Histogram(
    "agent_activation_seconds",
    "Time to bring a session from the journal into memory.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1),
    registry=REGISTRY,
)
INBOX_RECEIVED = Counter(
    "agent_inbox_received_total", "Messages that came; repeats are not counted.", registry=REGISTRY
)
INBOX_ENQUEUED = Counter("agent_inbox_enqueued_total", "Messages that are in the journal.", registry=REGISTRY)
INBOX_REJECTED = Counter("agent_inbox_rejected_total", "Messages that were not taken.", registry=REGISTRY)
EPOCH_CONFLICTS = Counter(
    "agent_epoch_conflicts_total", "Appends refused because another writer took over.", registry=REGISTRY
)
JOURNAL_COMMIT_EVENTS = Histogram(
    "agent_journal_commit_events",
    "Events written by one commit of the journal.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    registry=REGISTRY,
)
WORKSPACES = Counter(
    "agent_sandbox_workspaces_total",
    "Workspaces of sandboxes that were saved, restored or forgotten, or were to be.",
    ["operation", "outcome"],
    registry=REGISTRY,
)
WORKSPACE_BYTES = Histogram(
    "agent_sandbox_workspace_bytes",
    "What a workspace that was saved takes in the object store.",
    buckets=(2**10, 2**14, 2**17, 2**20, 2**23, 2**26, 2**28),
    registry=REGISTRY,
)


MEMORY_BYTES = Gauge("agent_memory_usage_bytes", "Memory of this process.", ["type"], registry=REGISTRY)


def _resident_bytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


MEMORY_BYTES.labels("rss").set_function(_resident_bytes)

_MODEL_LABELS: set[str] = set()
_MAX_MODEL_LABELS = 100


def model_label(model: str) -> str:
    """The model's name for a label, or `other`: clients choose these names, and series must stay bounded."""
    if model not in _MODEL_LABELS:
        if len(_MODEL_LABELS) >= _MAX_MODEL_LABELS:
            return "other"
        _MODEL_LABELS.add(model)
    return model


def exposition() -> bytes:
    """This process's metrics in Prometheus's text format."""
    return generate_latest(REGISTRY)


def configure_logging(level: str) -> None:
    """JSON lines on standard error, with the context that `structlog.contextvars` holds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the values of variables: they are keys, and what users said.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
