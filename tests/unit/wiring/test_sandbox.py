"""Which backend the settings choose, and that one too weak is refused by name."""

import subprocess
import sys

import pytest

from actors.core.errors import SandboxUnavailable, StoreUnavailable
from actors.core.settings import Settings
from actors.sandbox.base import Capability, Level, Limits
from actors.sandbox.bubblewrap import BubblewrapBackend
from actors.sandbox.docker import DockerBackend
from actors.sandbox.egress_base import Attempt
from actors.sandbox.egress_rules import EgressRules
from actors.sandbox.first_fit import FirstFitBackend
from actors.wiring import sandbox as wiring


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"sandbox": "bubblewrap"}, BubblewrapBackend),
        ({"sandbox": "docker"}, DockerBackend),
        ({"sandbox": "auto"}, FirstFitBackend),
        ({"sandbox": "auto", "sandbox_docker_image": "mine:1"}, DockerBackend),
        ({"sandbox": "bubblewrap", "sandbox_docker_image": "mine:1"}, BubblewrapBackend),
    ],
)
async def test_the_settings_choose(settings, kind, tmp_path):
    backend = wiring.sandbox_backend(Settings(sandbox_cache=tmp_path, **settings))
    assert isinstance(backend, kind)
    await backend.aclose()


@pytest.mark.parametrize("sandbox", ["bubblewrap", "docker"])
async def test_without_domains_there_is_nothing_that_could_let_anything_out(sandbox, tmp_path):
    closed = wiring.sandbox_backend(Settings(sandbox_cache=tmp_path, sandbox=sandbox, sandbox_egress_ports=[80]))
    opened = wiring.sandbox_backend(
        Settings(
            sandbox_cache=tmp_path,
            sandbox=sandbox,
            sandbox_egress_domains=["pypi.org"],
            sandbox_egress_networks=["10.1.0.0/16"],
            sandbox_egress_mb=2,
            sandbox_egress_connections=3,
        )
    )
    assert closed._egress is None
    assert opened._egress.rules == EgressRules.of(["pypi.org"], [443, 80], ["10.1.0.0/16"])
    assert (opened._egress._desk.limits.total_bytes, opened._egress._desk.limits.connections) == (2 << 20, 3)
    with pytest.raises(StoreUnavailable):
        await opened._egress._desk.log.record("s", Attempt("pypi.org", 443, "allowed"))
    await closed.aclose()
    await opened.aclose()


@pytest.mark.parametrize(
    "settings",
    [
        {"sandbox_egress_domains": ["*"]},
        {"sandbox_egress_domains": ["10.0.0.1"]},
        {"sandbox_egress_domains": ["https://pypi.org"]},
        {"sandbox_egress_domains": ["a.*.org"]},
        {"sandbox_egress_networks": ["10.0.0.1/8"]},
        {"sandbox_egress_networks": ["everything"]},
        {"sandbox_egress_connections": 65},
    ],
)
def test_rules_that_say_nothing_clear_are_refused(settings):
    with pytest.raises(ValueError, match="sandbox_egress"):
        Settings(**settings)


async def test_isolation_that_is_too_weak_is_refused_with_what_would_mend_it(monkeypatch, tmp_path):
    async def weak(_backend):
        return Capability("bubblewrap", Level.NAMESPACE)

    monkeypatch.setattr(BubblewrapBackend, "probe", weak)
    settings = Settings(
        sandbox_cache=tmp_path, sandbox_min_level="container", sandbox_docker_host=f"unix://{tmp_path / 'none'}"
    )
    async with wiring.open_sandboxes(settings) as sandboxes:
        assert (await sandboxes.status()).capability.level is Level.NAMESPACE
        with pytest.raises(SandboxUnavailable) as refused:
            await sandboxes.shell("s", "true", timeout_s=1)

    said = refused.value.message
    assert "reaches isolation level namespace, and container is required" in said
    assert "bubblewrap: more than level namespace" in said
    assert "docker: a docker daemon at" in said
    assert "apt-get install docker.io" in said


def test_the_sdk_of_docker_is_loaded_only_where_it_is_used():
    program = (
        "import sys; from actors.wiring.sandbox import sandbox_backend; from actors.core.settings import Settings; "
        "sandbox_backend(Settings()); print('docker' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_limits_of_a_canary_fit(tmp_path):
    from actors.sandbox.interior import CANARY_LIMITS, check_workspace_fits

    check_workspace_fits(CANARY_LIMITS)
    with pytest.raises(SandboxUnavailable, match="more memory or less workspace"):
        check_workspace_fits(Limits(memory_bytes=1 << 20, workspace_bytes=1 << 20))
