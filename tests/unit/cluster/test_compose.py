"""The compose files, parsed: what a start of the cluster relies on and what must never slip in."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.core.settings import Settings
from actors.ray_fleet import SANDBOX_RESOURCE, SERVING, SESSION_RESOURCE

FOLDER = Path(__file__).parents[3] / "cluster" / "compose"
SECRETS = {"ray_token", "pepper", "database_password", "redis_password"}


def services(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())["services"]


BASE, SANDBOXES = services("compose.yaml"), services("sandboxes.yaml")
ALL = {**BASE, **SANDBOXES}
NODES = ("head", "worker", "sandbox")


def words(service: str) -> str:
    command = ALL[service]["command"]
    return command if isinstance(command, str) else " ".join(command)


def test_services():
    assert set(BASE) == {"redis", "postgres", "head", "worker", "deploy"}
    assert set(SANDBOXES) == {"sandbox"}


@pytest.mark.parametrize("service", ALL)
def test_images_have_a_version(service):
    image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", ALL[service]["image"])
    assert re.search(r":\d", image)
    assert "latest" not in image


def test_the_image_is_of_this_version():
    project = (FOLDER.parents[1] / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"$', project, re.MULTILINE)
    assert version
    assert {ALL[service]["image"] for service in (*NODES, "deploy")} == {
        f"${{GREENROOM_IMAGE:-greenroom:{version[1]}}}"
    }


@pytest.mark.parametrize("service", [*NODES, "deploy"])
def test_every_ray_process_has_the_token(service):
    assert ALL[service]["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert "ray_token" in ALL[service]["secrets"]


@pytest.mark.parametrize("service", ["head", "worker", "deploy"])
def test_what_needs_the_stores_has_their_secrets(service):
    given = ALL[service]["environment"]
    assert given["GREENROOM_PEPPER_PATH"] == "/run/secrets/pepper"
    assert given["GREENROOM_DATABASE_PASSWORD_PATH"] == "/run/secrets/database_password"
    assert "@" in given["GREENROOM_DATABASE_URL"]
    assert ":" not in given["GREENROOM_DATABASE_URL"].partition("://")[2].partition("@")[0]  # no password
    assert {"pepper", "database_password"} <= set(ALL[service]["secrets"])
    assert ALL[service]["volumes"] == ["home:/var/lib/greenroom"]


def test_sandboxes_are_given_no_way_to_the_stores_but_that_of_workspaces():
    assert ALL["sandbox"]["secrets"] == ["ray_token"]
    given = {name for name in ALL["sandbox"]["environment"] if not name.startswith("AWS_")}
    assert given == {"RAY_AUTH_TOKEN_PATH"}


def test_workspaces_outlive_the_container_of_their_sandbox():
    folder = Settings(home=Path("/var/lib/greenroom")).resolved_object_store_url
    assert ALL["sandbox"]["volumes"] == [f"workspaces:{folder}"]
    image = FOLDER.parents[1] / "Dockerfile"
    assert folder in image.read_text()  # a new volume is its user's only where the image has the folder
    assert {"GREENROOM_OBJECT_STORE_URL", "GREENROOM_OBJECT_STORE_ENDPOINT"} <= set(ALL["deploy"]["environment"])


def test_labels_keep_away_what_would_be_lost_or_lacks_a_secret():
    assert SERVING == {"greenroom": "!in(head,sandboxes)"}
    assert "--labels=greenroom=sandboxes" in words("sandbox")
    assert "--labels=greenroom=head" in words("head")
    assert "--labels" not in words("worker")


def test_settings_are_settings():
    text = "".join((FOLDER / name).read_text() for name in ("compose.yaml", "sandboxes.yaml"))
    named = {name.lower() for name in re.findall(r"^ +GREENROOM_([A-Z_]+):", text, re.MULTILINE)}
    assert named <= set(Settings.model_fields)
    assert len(named) > 4


def test_secrets_are_files_that_somebody_makes():
    declared = yaml.safe_load((FOLDER / "compose.yaml").read_text())["secrets"]
    assert declared == {name: {"file": f"secrets/{name}"} for name in SECRETS}
    made = re.search(r"for name in ([\w ]+); do openssl", (FOLDER / "compose.yaml").read_text())
    assert made
    assert set(made[1].split()) == SECRETS


def test_the_head_may_die():
    assert ALL["head"]["environment"]["RAY_REDIS_ADDRESS"] == "redis:6379"
    assert ALL["head"]["environment"]["RAY_external_storage_namespace"]
    assert "--appendonly yes --appendfsync always" in words("redis")
    assert ALL["redis"]["volumes"] == ["redis:/data"]
    assert SESSION_RESOURCE not in words("head")
    assert "--num-cpus=0" in words("head")


def test_resources_are_those_that_actors_ask_for():
    assert f'"{SESSION_RESOURCE}": {Settings().session_actors_max_per_node}' in words("worker")
    assert f'"{SANDBOX_RESOURCE}": 1' in words("sandbox")
    assert '"http": 1' in words("worker")
    assert "--resource=http" in words("deploy")


@pytest.mark.parametrize("service", ALL)
def test_every_service_comes_back_and_says_how_it_feels(service):
    if service == "deploy":
        assert ALL[service]["restart"] == "on-failure"
    else:
        assert ALL[service]["restart"] == "unless-stopped"
        assert ALL[service]["healthcheck"]["test"]


@pytest.mark.parametrize("service", [*NODES, "deploy"])
def test_no_capability_is_granted(service):
    options = ALL[service]
    assert options["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in options["security_opt"]
    assert not {"cap_add", "privileged", "user", "network_mode", "pid", "devices"} & options.keys()
    relaxed = [option for option in options["security_opt"] if "unconfined" in option]
    assert bool(relaxed) == (service == "sandbox")


@pytest.mark.parametrize("service", ALL)
def test_ports_are_published_on_loopback(service):
    assert all(port.startswith("127.0.0.1:") for port in ALL[service].get("ports", ()))
