"""The application as Serve takes it declaratively."""

import importlib
import json
import warnings
from types import SimpleNamespace

import pytest

from actors.core.settings import Settings


@pytest.fixture(scope="module")
def parts() -> SimpleNamespace:
    # Ray Serve warns of itself while it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("cluster.serve_config")
        return SimpleNamespace(
            config=module.serve_config,
            builder=module.BUILDER,
            app=importlib.import_module("serve_app.app"),
            schema=importlib.import_module("ray.serve.schema").ServeDeploySchema,
            call=importlib.import_module("ray.serve._private.api").call_user_app_builder_with_args_if_necessary,
        )


def test_serve_takes_it(parts):
    config = parts.config(Settings(port=8123), replicas=3)
    parsed = parts.schema.model_validate(json.loads(json.dumps(config)))
    (application,) = parsed.applications
    assert parsed.proxy_location == "EveryNode"
    assert parsed.http_options.port == 8123
    assert application.import_path == parts.builder
    assert application.deployments[0].num_replicas == 3


def test_the_builder_is_where_it_is_said_to_be(parts):
    module, _, name = parts.builder.partition(":")
    assert module == parts.app.__name__
    assert getattr(parts.app, name) is parts.app.build


def test_settings_travel_and_passwords_do_not(parts, monkeypatch):
    monkeypatch.setenv("GREENROOM_DATABASE_URL", "postgresql+psycopg://me:secret@there/db")
    monkeypatch.setenv("GREENROOM_SESSIONS_PER_ACTOR", "7")
    config = parts.config(Settings(), replicas=1)
    assert "secret" not in json.dumps(config)

    built = parts.call(parts.app.build, config["applications"][0]["args"])

    settings = built._bound_deployment.init_args[0]
    assert settings.sessions_per_actor == 7
    assert settings.database_url == "postgresql+psycopg://me:secret@there/db"  # of the environment where it is built


def test_the_same_settings_are_the_same_configuration(parts, monkeypatch):
    """Serve replaces the replicas of an application whose configuration changed, and no others."""
    monkeypatch.setenv("GREENROOM_APPROVAL_TOOLS", '["run_shell"]')
    assert parts.config(Settings(), replicas=2) == parts.config(Settings(), replicas=2)
    assert parts.config(Settings(port=9000), replicas=2) != parts.config(Settings(), replicas=2)


def test_http_may_be_kept_to_some_machines(parts):
    config = parts.config(Settings(), replicas=2, resource="http")
    (deployment,) = config["applications"][0]["deployments"]
    assert deployment["ray_actor_options"]["resources"] == {"http": 1}
    built = parts.app.build(Settings())._bound_deployment.ray_actor_options
    assert deployment["ray_actor_options"]["label_selector"] == built["label_selector"]
    assert deployment["ray_actor_options"]["num_cpus"] == built["num_cpus"]
