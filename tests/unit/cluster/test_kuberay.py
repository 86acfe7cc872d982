"""The Kubernetes manifests, parsed: what the cluster relies on, and what must never slip in."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.core.settings import Settings
from actors.ray_fleet import SANDBOX_RESOURCE, SERVING, SESSION_RESOURCE
from cluster.environment import machine_environment

FOLDER = Path(__file__).parents[3] / "cluster" / "kuberay"
FILES = sorted(FOLDER.glob("*.yaml"))
DOCUMENTS = [document for file in FILES for document in yaml.safe_load_all(file.read_text())]


def the(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in DOCUMENTS if one["kind"] == kind and one.get("metadata", {}).get("name") == name)


CLUSTER = the("RayCluster", "greenroom")["spec"]
HEAD = CLUSTER["headGroupSpec"]
GROUPS = {group["groupName"]: group for group in CLUSTER["workerGroupSpecs"]}
DEPLOY = the("Job", "greenroom-deploy")["spec"]["template"]["spec"]
REDIS = the("StatefulSet", "greenroom-redis")["spec"]["template"]["spec"]
RAY_PODS = {"head": HEAD["template"]["spec"], **{name: group["template"]["spec"] for name, group in GROUPS.items()}}
PODS = {**RAY_PODS, "deploy": DEPLOY, "redis": REDIS}


def container(pod: str) -> dict[str, Any]:
    only, *others = PODS[pod]["containers"]
    assert not others
    return only


def resources(group: str) -> dict[str, int]:
    return json.loads(json.loads(GROUPS[group]["rayStartParams"]["resources"]))


def selectors(node: Any) -> Iterator[dict[str, str]]:
    if isinstance(node, dict):
        if "podSelector" in node:
            yield node["podSelector"]["matchLabels"]
        for value in node.values():
            yield from selectors(value)
    if isinstance(node, list):
        for value in node:
            yield from selectors(value)


def test_every_file_is_applied():
    listed = the_kustomization()["resources"]
    assert sorted(listed) == [file.name for file in FILES if file.name != "kustomization.yaml"]


def the_kustomization() -> dict[str, Any]:
    return next(one for one in DOCUMENTS if one["kind"] == "Kustomization")


def test_it_is_one_cluster():
    """An upgrade of a RayService is a second cluster, to which detached actors do not move."""
    assert "RayService" not in {document["kind"] for document in DOCUMENTS}
    assert CLUSTER["rayVersion"] == version("ray")


def test_the_head_may_die():
    options = CLUSTER["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "greenroom-redis:6379"
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "greenroom-redis"
    redis = " ".join(container("redis")["command"])
    assert "--appendonly yes" in redis
    assert "--appendfsync always" in redis
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert "resources" not in HEAD["rayStartParams"]


def test_nobody_enters_without_the_token():
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": "greenroom-ray"}
    (token,) = container("deploy")["env"]
    assert token["name"] == "RAY_AUTH_TOKEN"
    assert token["valueFrom"]["secretKeyRef"] == {"name": "greenroom-ray", "key": "auth_token"}


def test_the_environment_is_the_images():
    """What cluster/environment.py says comes with the image; a manifest that said it too could say something else."""
    given = the("ConfigMap", "greenroom-settings")["data"]
    assert not [name for name in given if name.startswith("RAY_")]
    for pod in RAY_PODS:
        assert "env" not in container(pod)
    text = "".join(file.read_text() for file in FILES)
    assert set(re.findall(r"\bRAY_\w+", text)) == {"RAY_AUTH_TOKEN"}
    assert machine_environment(FOLDER)["RAY_AUTH_MODE"] == CLUSTER["authOptions"]["mode"]


def test_settings_are_settings():
    given = the("ConfigMap", "greenroom-settings")["data"]
    assert {name.removeprefix("GREENROOM_").lower() for name in given} <= set(Settings.model_fields)
    assert all(isinstance(value, str) for value in given.values())
    # The values are ones that the settings take.
    Settings(**{name.removeprefix("GREENROOM_").lower(): value for name, value in given.items()})
    assert ":" not in given["GREENROOM_DATABASE_URL"].partition("://")[2].partition("@")[0]  # no password


def test_slots_are_those_that_actors_ask_for():
    most = the("ConfigMap", "greenroom-settings")["data"]["GREENROOM_SESSION_ACTORS_MAX_PER_NODE"]
    assert resources("sessions") == {SESSION_RESOURCE: int(most)}
    assert resources("sandboxes") == {SANDBOX_RESOURCE: 1}
    assert resources("http") == {"http": 1}
    assert "--resource=http" in container("deploy")["command"]
    assert f"--replicas={GROUPS['http']['replicas']}" in container("deploy")["command"]


@pytest.mark.parametrize("group", GROUPS)
def test_a_node_is_emptied_within_its_grace(group):
    hook = container(group)["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[:3] == ["greenroom", "drain-node", "--within"]
    # Ray has to start, to connect, and to stop afterwards.
    assert int(hook[3]) + 30 <= RAY_PODS[group]["terminationGracePeriodSeconds"]


def test_what_grows_is_what_ray_sees_waiting():
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert CLUSTER["autoscalerOptions"]["version"] == "v2"
    growing = {name for name, group in GROUPS.items() if group["minReplicas"] < group["maxReplicas"]}
    assert growing == {"sessions"}
    for group in GROUPS.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_sandboxes_are_given_no_way_to_the_stores_but_that_of_workspaces():
    assert container("sandboxes")["envFrom"] == [{"secretRef": {"name": "greenroom-objects", "optional": True}}]
    assert [volume["name"] for volume in RAY_PODS["sandboxes"]["volumes"]] == ["object-keys", "shm"]
    assert RAY_PODS["sandboxes"]["volumes"][0]["secret"]["secretName"] == "greenroom-object-keys"


def test_a_sandboxes_pod_reaches_what_its_settings_name():
    *_, store = the("NetworkPolicy", "greenroom-sandboxes")["spec"]["egress"]
    assert store["to"] == [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"greenroom-objects": "allowed"}}}]
    assert {port["port"] for port in store["ports"]} == {443, 9000}
    named = (FOLDER / "settings.yaml").read_text()
    for setting in ("object_store_url", "object_store_endpoint", "object_keys_path"):
        assert setting in Settings.model_fields
        assert f"# GREENROOM_{setting.upper()}: " in named
    (mount,) = [one for one in container("sandboxes")["volumeMounts"] if one["name"] == "object-keys"]
    assert f"GREENROOM_OBJECT_KEYS_PATH: {mount['mountPath']}/keys" in named


def test_labels_keep_away_what_would_be_lost_or_lacks_a_secret():
    assert SERVING == {"greenroom": "!in(head,sandboxes)"}
    assert HEAD["labels"] == {"greenroom": "head"}
    assert GROUPS["sandboxes"]["labels"] == {"greenroom": "sandboxes"}
    assert [name for name, group in GROUPS.items() if "labels" in group] == ["sandboxes"]


@pytest.mark.parametrize("pod", PODS)
def test_pods_are_bounded_and_have_few_rights(pod):
    inside, outside = container(pod)["securityContext"], PODS[pod]["securityContext"]
    assert outside["runAsNonRoot"] is True
    assert inside["allowPrivilegeEscalation"] is False
    assert inside["capabilities"] == {"drop": ["ALL"]}
    assert container(pod)["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container(pod)["resources"]["limits"]
    relaxed = outside["seccompProfile"]["type"] == "Unconfined" or "procMount" in inside
    assert relaxed == (pod == "sandboxes")
    assert (PODS[pod].get("hostUsers") is False) == (pod == "sandboxes")


@pytest.mark.parametrize("pod", RAY_PODS)
def test_pods_are_probed_without_programs_that_the_image_lacks(pod):
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert "httpGet" in container(pod)[probe]
    ready = container(pod)["readinessProbe"]["httpGet"]
    assert (ready == {"path": "/ready", "port": Settings().port}) == (pod == "http")


@pytest.mark.parametrize("pod", PODS)
def test_images_have_a_version(pod):
    image = container(pod)["image"]
    assert re.search(r":\d+\.\d", image)
    if pod != "redis":
        assert image == f"greenroom:{the_kustomization()['images'][0]['newTag']}"


def test_the_image_is_of_this_version():
    project = (FOLDER.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{the_kustomization()["images"][0]["newTag"]}"' in project


def test_what_is_referred_to_is_there_or_told_to_be_made():
    made = set(re.findall(r"kubectl create secret generic ([\w-]+)", (FOLDER / "kustomization.yaml").read_text()))
    text = "".join(file.read_text() for file in FILES if file.name != "kustomization.yaml")
    wanted = set(re.findall(r"secretName: ([\w-]+)|secretRef: \{name: ([\w-]+)[,}]", text))
    names = {name for pair in wanted for name in pair if name} | {"greenroom-redis"}
    assert names == made
    assert not [document for document in DOCUMENTS if document["kind"] == "Secret"]
    assert the("PersistentVolumeClaim", "greenroom-home")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_policies_select_pods_that_are_there():
    labels = [the("StatefulSet", "greenroom-redis")["spec"]["template"]["metadata"]["labels"]]
    labels += [the("Job", "greenroom-deploy")["spec"]["template"]["metadata"]["labels"]]
    labels += [{"ray.io/cluster": "greenroom", "ray.io/group": name, "ray.io/node-type": "worker"} for name in GROUPS]
    labels += [{"ray.io/cluster": "greenroom", "ray.io/node-type": kind} for kind in ("head", "redis-cleanup")]
    labels += [{"app.kubernetes.io/name": "kuberay-operator"}]
    labels += [{"greenroom-objects": "allowed"}]  # of whoever has an S3 in the cluster
    policies = [document for document in DOCUMENTS if document["kind"] == "NetworkPolicy"]
    assert len(policies) == 4
    for selector in selectors(policies):
        assert any(selector.items() <= one.items() for one in labels), selector
    service = the("Service", "greenroom")["spec"]
    assert any(service["selector"].items() <= one.items() for one in labels)
    assert service["ports"][0]["targetPort"] == Settings().port
