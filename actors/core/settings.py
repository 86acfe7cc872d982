"""Every setting, read in one place. No other file reads the environment (ruff bans it).

Settings travel between processes; sockets, pools and secrets do not. A secret is the *name* of an
environment variable or of a file here, and `read_secret` resolves it in the process that needs it.
"""

import os
import re
from decimal import Decimal
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GUIDE_COMMANDS = ("npm", "node", "python3", "pip3", "git", "curl", "wget", "ls", "cat", "grep", "find")
"""Those that the project's security section allows."""

EVERYDAY_COMMANDS = (
    *"""
    python egrep fgrep sed awk head tail wc sort uniq cut tr tee paste join comm split column rev tac nl fold fmt shuf
    seq expr bc date sleep echo printf pwd env true false test yes basename dirname readlink realpath mktemp
    mkdir touch cp mv stat du df tree file diff cmp patch tar gzip gunzip zcat bzip2 xz zip unzip
    md5sum sha1sum sha256sum base64 od xxd jq sqlite3 id whoami uname nproc ps which xargs timeout time
    """.split(),  # noqa: SIM905  one word per line would hide what is there
)
"""What a sandbox has beside them, but for what deletes, links, changes modes, signals others or is a shell."""

_DOMAIN = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_-]*[a-z][a-z0-9_-]*", re.IGNORECASE)

_THRESHOLD = re.compile(r"(hour|day|month):\d{1,9}(\.\d{1,6})?%?:(warning|critical|emergency)")


class Settings(BaseSettings):
    """Read from `GREENROOM_*` environment variables; an argument to the constructor wins over them."""

    model_config = SettingsConfigDict(env_prefix="GREENROOM_", frozen=True, extra="ignore")

    # Where -----------------------------------------------------------------------------------------
    home: Path = Field(default=Path("~/.greenroom"), description="Folder of the embedded stores, keys and logs.")
    host: str = Field(default="127.0.0.1", description="Address that HTTP binds to.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port of HTTP.")
    dashboard_port: int = Field(default=8265, ge=1, le=65535, description="Port of the Ray dashboard.")
    namespace: str = Field(default="greenroom", description="Ray namespace of the actors.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Stores ----------------------------------------------------------------------------------------
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy address, e.g. postgresql+psycopg://…; by default SQLite in the home folder.",
    )
    database_password_path: Path | None = Field(
        default=None, description="File with the password of that address, which then need not hold it."
    )
    pepper_path: Path | None = Field(
        default=None, description="File with the secret that API keys are hashed with; by default in the home folder."
    )
    database_pool: int = Field(default=20, ge=1, description="Connections of one process, at most.")
    database_connect_s: float = 5.0
    database_statement_s: float = 30.0
    object_store_url: str | None = Field(
        default=None,
        description="Where workspaces are kept: a folder or s3://bucket/prefix; by default one in the home folder.",
    )
    object_store_endpoint: str | None = Field(
        default=None, description="Address of an S3 server other than Amazon's; credentials come from AWS_* variables."
    )
    object_store_allow_http: bool = Field(default=False, description="That address may be plain http.")
    object_store_timeout_s: float = Field(default=10.0, gt=0, description="Deadline of each of its calls.")
    object_keys_path: Path | None = Field(
        default=None,
        description="File of keys that seal workspaces: a line each, base64 of 32 bytes. The first seals, all open.",
    )

    # Models ----------------------------------------------------------------------------------------
    llm: Literal["auto", "demo", "openai"] = Field(
        default="auto",
        description="auto: `openai` when a base URL or an API key is there, else the offline demo model.",
    )
    llm_base_url: str | None = Field(
        default=None, description="An OpenAI-compatible server; OpenRouter when only a key is set."
    )
    llm_api_key_env: str = Field(
        default="OPENROUTER_API_KEY", description="Name of the variable that holds the API key."
    )
    model: str | None = Field(default=None, description="Default model.")
    llm_first_token_s: float = 60.0
    llm_idle_s: float = 30.0
    llm_total_s: float = 240.0
    llm_connect_s: float = 10.0
    llm_dialect: Literal["auto", "openrouter", "openai"] = Field(
        default="auto", description="How the server is asked; auto: openrouter at openrouter.ai, else openai."
    )
    llm_fallback_models: tuple[str, ...] = Field(
        default=(), description="Models to ask, in this order, when the one that was asked for fails."
    )
    llm_max_prompt_usd: Decimal | None = Field(
        default=None, ge=0, description="Dollars per million prompt tokens that a provider may ask for, at most."
    )
    llm_max_completion_usd: Decimal | None = Field(
        default=None, ge=0, description="The same for completion tokens. Both need OpenRouter, or its like."
    )
    llm_reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="How long models think, of those that can; the model decides by default."
    )
    llm_providers: tuple[str, ...] = Field(
        default=(), description="The only providers that OpenRouter may route to; any by default."
    )
    llm_provider_order: tuple[str, ...] = Field(default=(), description="Providers that it asks first.")
    llm_no_collection: bool = Field(
        default=False, description="It leaves out providers that may keep prompts or train on them."
    )
    llm_no_retention: bool = Field(default=False, description="It asks only providers that keep nothing.")
    llm_max_calls: int = Field(default=0, ge=0, description="Model calls of one process at once; 0 is no limit.")
    llm_max_calls_per_model: int = Field(default=0, ge=0, description="The same for each model.")
    llm_queue_max: int = Field(default=1000, ge=0, description="Calls that may wait for one of those.")
    llm_queue_s: float = Field(default=60.0, gt=0, description="How long each may wait.")
    llm_breaker_window_s: float = Field(default=60.0, gt=0, description="Failures are counted over so long.")
    llm_breaker_failure_rate: float = Field(
        default=0.5, gt=0, le=1, description="What fails that often is left alone for a while."
    )
    llm_breaker_min_calls: int = Field(default=10, ge=1, description="Of fewer calls nothing is concluded.")
    llm_breaker_open_s: float = Field(default=5.0, gt=0, description="How long it is left alone, at first.")
    llm_breaker_open_max_s: float = Field(default=120.0, gt=0, description="And at most, when it fails again.")

    # Sessions --------------------------------------------------------------------------------------
    session_actors_per_node: int = Field(default=2, ge=1, description="Session processes kept warm on a node.")
    session_actors_max_per_node: int = Field(default=16, ge=1, description="Session processes on a node, at most.")
    sessions_per_actor: int = Field(
        default=1000, ge=1, description="Resident sessions of a process; 1 gives each its own."
    )
    session_silent_s: float = Field(
        default=10.0, gt=0, description="A session process that stands still keeps its turns for so long."
    )
    session_idle_s: float = Field(default=300.0, gt=0, description="A session idle for longer is dropped from memory.")
    system_prompt: str | None = Field(default=None, description="Default system prompt.")
    inbox_max: int = Field(default=100, ge=1, description="Messages that may wait in one session.")
    approval_tools: tuple[str, ...] = Field(
        default=(), description='Tools that a person must approve in every session, e.g. ["run_shell"].'
    )
    approval_expires_s: float = Field(default=86_400.0, gt=0, description="A person is waited for so long.")
    approval_on_expiry: Literal["approve", "deny"] = Field(default="deny", description="What is decided then.")
    retention_days: float | None = Field(
        default=None, ge=1, description="Events older than so many days are trimmed; by default none are."
    )

    # Limits of a turn ------------------------------------------------------------------------------
    message_max_bytes: int = 1024 * 1024
    turn_max_steps: int = Field(default=24, ge=1, description="Model calls of one turn.")
    turn_max_s: float = Field(default=600.0, gt=0, description="Wall time of one turn.")
    turn_max_tokens: int = Field(default=1_000_000, ge=1, description="Prompt and completion tokens of one turn.")
    turn_max_cost_micros: int = Field(
        default=5_000_000, ge=0, description="Cost of one turn in micro-dollars; 0 is no limit."
    )
    turn_max_recoveries: int = Field(default=3, ge=0, description="A turn that was taken over more often is failed.")
    completion_max_tokens: int = Field(default=4096, ge=16, description="Completion tokens asked for in one call.")
    tool_output_chars: int = Field(
        default=16_000, ge=100, description="Characters of a tool's answer that the model reads."
    )
    delta_interval_s: float = Field(default=0.02, ge=0, description="Deltas are sent at most this often.")

    # Budgets: what may be spent, in micro-dollars; 0 is no limit ---------------------------------------
    budget_user_hour_micros: int = Field(default=5_000_000, ge=0, description="One user, in an hour (UTC).")
    budget_user_day_micros: int = Field(default=50_000_000, ge=0, description="One user, in a day (UTC).")
    budget_user_month_micros: int = Field(default=500_000_000, ge=0, description="One user, in a month (UTC).")
    budget_key_day_micros: int = Field(default=0, ge=0, description="One API key, in a day (UTC).")
    budget_key_month_micros: int = Field(default=0, ge=0, description="One API key, in a month (UTC).")
    budget_org: str | None = Field(
        default=None, max_length=64, description="The organisation that this installation's calls are charged to, too."
    )
    budget_org_day_micros: int = Field(default=0, ge=0, description="It, in a day (UTC).")
    budget_org_month_micros: int = Field(default=0, ge=0, description="It, in a month (UTC).")
    budget_unlisted_price: Literal["auto", "free", "assumed", "refuse"] = Field(
        default="auto",
        description="A model of unknown price. auto: free at a server of which no price is known, else refused.",
    )
    budget_assumed_prompt_usd: Decimal = Field(
        default=Decimal(10), ge=0, description="The assumed price of a million prompt tokens."
    )
    budget_assumed_completion_usd: Decimal = Field(
        default=Decimal(40), ge=0, description="The assumed price of a million completion tokens."
    )
    budget_sandbox_second_micros: Decimal = Field(
        default=Decimal(0), ge=0, description="A second of code in a sandbox; fractions are fine. 0: it is free."
    )
    budget_sandbox_seconds: Literal["wall", "cpu"] = Field(
        default="wall", description="Which seconds those are; wall where a sandbox does not count processor time."
    )
    budget_tool_micros: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={}, description='What a call of a tool costs beside that, by name, e.g. {"web_search": 5000}.'
    )
    budget_embedding_micros: int = Field(default=0, ge=0, description="A text that is embedded, by remember or recall.")
    budget_drift_usd: Decimal = Field(
        default=Decimal(1), ge=0, description="Dollars that a day's ledger and the model server's meter may differ by."
    )
    budget_thresholds: tuple[str, ...] = Field(
        default=("hour:80%:warning", "day:80%:critical", "month:80%:warning", "month:95%:emergency"),
        description="window:sum:severity, by user; the sum a share of the limit (80%) or US dollars (40).",
    )
    budget_cheaper_model: str | None = Field(
        default=None, description="Asked in place of an expensive model while a budget is paused."
    )
    budget_expensive_prompt_usd: Decimal = Field(
        default=Decimal(5), ge=0, description="Dearer models, by a million prompt tokens, are refused then."
    )
    budget_expensive_completion_usd: Decimal = Field(
        default=Decimal(15), ge=0, description="The same by a million completion tokens."
    )
    budget_expensive_run_s: float = Field(
        default=60.0, gt=0, description="And no program of a tool runs longer than that then."
    )
    budget_webhook_url: str | None = Field(default=None, description="Is told of thresholds, in Slack's format.")
    budget_webhook_secret_env: str = Field(
        default="GREENROOM_WEBHOOK_SECRET", description="Name of the variable with the secret that signs that."
    )
    budget_webhook_tries: int = Field(default=12, ge=1, description="Then it is given up, after about an hour.")
    budget_redis_url: str | None = Field(
        default=None, description="A Redis that admits reservations, e.g. redis://…; by default the database does."
    )

    # Sandbox ---------------------------------------------------------------------------------------
    sandbox: Literal["auto", "bubblewrap", "docker", "gvisor", "none"] = Field(
        default="auto",
        description="auto: the first of bubblewrap, docker, gvisor that reaches the level below; docker for an image.",
    )
    sandbox_min_level: Literal["namespace", "container", "gvisor", "vm"] = Field(
        default="namespace", description="Weaker isolation is refused, and with it every tool that runs code."
    )
    sandbox_docker_host: str = Field(
        default="unix:///var/run/docker.sock", description="Socket of this machine's docker daemon."
    )
    sandbox_docker_image: str | None = Field(
        default=None,
        description="An image of your own that the daemon has, with `python3`; by default one is made of this machine.",
    )
    sandbox_cache: Path | None = Field(
        default=None, description="Folder of built root filesystems; chosen by user when empty."
    )
    sandbox_memory_mb: int = Field(default=512, ge=64)
    sandbox_cpus: float = Field(default=0.5, gt=0)
    sandbox_pids: int = Field(default=64, ge=8)
    sandbox_workspace_mb: int = Field(default=256, ge=1)
    sandbox_command_s: float = Field(default=300.0, gt=0)
    sandbox_warm: int = Field(default=1, ge=0, description="Sandboxes kept ready on a node.")
    sandbox_snapshot_mb: int = Field(
        default=256, ge=0, description="A workspace that packs to no more is kept when its sandbox ends; 0: none is."
    )
    sandbox_idle_s: float = Field(default=900.0, gt=0, description="A sandbox that is idle for longer is ended.")
    sandbox_max_lease_s: float = Field(
        default=86_400.0, gt=0, description="One that a session has had for longer is ended when nothing runs in it."
    )
    sandbox_freeze_s: float = Field(default=5.0, ge=0, description="One idle for so long is frozen; 0: none is.")
    sandbox_max_leased: int = Field(default=64, ge=1, description="Sessions of a machine that have a sandbox, at most.")
    sandbox_max_waiting: int = Field(default=256, ge=0, description="Sessions that may wait for one, at most.")
    sandbox_wait_s: float = Field(default=30.0, ge=0, description="They wait for so long, and are then refused.")
    sandbox_spare_s: float = Field(
        default=10.0, ge=0, description="A sandbox that is idle for so long makes room for a session that waits."
    )
    sandbox_egress_domains: tuple[str, ...] = Field(
        default=(),
        description='What sandboxes may reach: names, or "*.example.org" for all below one. By default nothing.',
    )
    sandbox_egress_ports: tuple[int, ...] = Field(default=(443, 80), description="On these ports.")
    sandbox_egress_networks: tuple[str, ...] = Field(
        default=(), description='Private addresses that those names may lead to all the same, e.g. ["10.1.2.0/24"].'
    )
    sandbox_egress_connections: int = Field(default=32, ge=1, le=64, description="Of one sandbox at once.")
    sandbox_egress_connections_total: int = Field(default=10_000, ge=1, description="Of one sandbox in all.")
    sandbox_egress_mb: int = Field(default=1024, ge=1, description="To and from one sandbox in all.")
    sandbox_egress_connect_s: float = Field(default=10.0, gt=0)
    sandbox_egress_idle_s: float = Field(default=60.0, gt=0, description="A silent connection is ended after so long.")

    # Policy: what tools may do in a sandbox ------------------------------------------------------------
    policy_allowed_commands: tuple[str, ...] = Field(
        default=GUIDE_COMMANDS + EVERYDAY_COMMANDS,
        description='Names of programs that a command may start; ["*"] is every program.',
    )
    policy_blocked_patterns: tuple[str, ...] = Field(
        default=(
            r"rm\s+-rf\s+",
            r"sudo\s+",
            r"chmod\s+777",
            # One stream thrown away is everyday; a command that says nothing at all is what the pattern is for.
            r"(?:&>>?|>&)\s*\/dev\/null",
            r">\s*\/dev\/null\s+2>>?\s*(?:&\s*1|\/dev\/null)",
            r"2>>?\s*\/dev\/null\s+1?>>?\s*(?:&\s*2|\/dev\/null)",
            r"\|\s*bash",
            r"eval\s*\(",
            r"exec\s*\(",
        ),
        description="Regular expressions; a command line in which one is found is refused.",
    )
    policy_allowed_directories: tuple[str, ...] = Field(
        default=("/workspace",), description="Folders in a sandbox whose files may be read and written by tools."
    )
    policy_blocked_files: tuple[str, ...] = Field(
        default=(".env", "*.key", "*.pem", "/etc/passwd", "/etc/shadow"),
        description="Names, or with a slash whole paths, of files that may not: shell patterns.",
    )
    policy_max_file_mb: int = Field(default=100, ge=1, description="Size of a file, inside and across the border.")
    policy_quarantine: bool = Field(default=True, description="Keep the contents of files that were refused.")
    policy_quarantine_max_mb: int = Field(default=1024, ge=1, description="So much is kept on a machine.")
    policy_log_all_commands: bool = Field(
        default=True, description="Audit what was allowed, too; what was refused always is."
    )

    # Memory ----------------------------------------------------------------------------------------
    memory_timeout_s: float = 10.0

    # HTTP ------------------------------------------------------------------------------------------
    chat_wait_s: float = Field(default=300.0, gt=0, description="A JSON chat answers 202 when its turn takes longer.")
    sse_heartbeat_s: float = Field(default=10.0, gt=0)
    sse_write_s: float = Field(
        default=30.0, gt=0, description="A reader that takes nothing of a stream for so long is cut off; it may resume."
    )
    api_key_cache_s: float = Field(default=30.0, ge=0)

    @field_validator("policy_blocked_patterns")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return patterns

    @field_validator("budget_thresholds")
    @classmethod
    def _are_thresholds(cls, thresholds: tuple[str, ...]) -> tuple[str, ...]:
        for threshold in thresholds:
            if not _THRESHOLD.fullmatch(threshold):
                raise ValueError(f"{threshold!r} is not as day:80%:critical or day:40:critical")
        return thresholds

    @field_validator("sandbox_egress_domains")
    @classmethod
    def _are_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            if not _DOMAIN.fullmatch(domain):
                raise ValueError(f"{domain!r} is neither a name, as pypi.org, nor all below one, as *.pypi.org")
        return domains

    @field_validator("sandbox_egress_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)  # raises ValueError
        return networks

    @cached_property
    def home_dir(self) -> Path:
        """`home` with `~` resolved."""
        return self.home.expanduser().absolute()

    @cached_property
    def resolved_database_url(self) -> str:
        """Without the password that a file holds: settings travel, secrets do not."""
        return self.database_url or f"sqlite:///{self.home_dir / 'greenroom.db'}"

    @cached_property
    def resolved_object_store_url(self) -> str:
        return self.object_store_url or str(self.home_dir / "objects")

    @property
    def admin_key_file(self) -> Path:
        return self.home_dir / "admin.key"

    @property
    def pepper_file(self) -> Path:
        """Secret that API keys are hashed with."""
        return self.pepper_path or self.home_dir / "pepper"

    @property
    def quarantine_dir(self) -> Path:
        """Files that a policy refused, of the sessions of this machine."""
        return self.home_dir / "quarantine"

    @property
    def vectors_dir(self) -> Path:
        return self.home_dir / "vectors"


def read_secret(name: str) -> str | None:
    """The environment variable `name`, or None when unset or empty."""
    return os.environ.get(name) or None


def read_secret_file(file: Path) -> str:
    """What a file holds, without the white space around it. Raises OSError."""
    return file.read_text().strip()


def inherited_environment() -> dict[str, str]:
    """A copy of this process's environment, for child processes."""
    return dict(os.environ)


def set_environment(values: dict[str, str]) -> None:
    """Set variables of this process that a library reads: Ray's client takes its token from there."""
    os.environ.update(values)
