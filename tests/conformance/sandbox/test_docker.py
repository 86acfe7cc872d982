"""What only docker's sandboxes promise: their settings, their image, their daemon, and the death of their host."""

import asyncio
import signal
import socket
import sys
from dataclasses import replace

import docker
import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import Level, Limits
from actors.sandbox.docker import LABEL, DockerBackend
from actors.sandbox.docker_engine import DockerEngine
from actors.testing.dockerd import Dockerd

# Runs as a program of its own: makes a sandbox, says so, and never ends it.
_HOST = """
import asyncio, sys
from pathlib import Path
from actors.sandbox.base import Limits
from actors.sandbox.docker import DockerBackend

async def main():
    sandbox = await DockerBackend(Path(sys.argv[1]), host=sys.argv[2]).create(Limits())
    await sandbox.shell(sys.argv[3], timeout_s=300, on_output=lambda text: print(text, end="", flush=True))

asyncio.run(main())
"""


# As above, but freezes its sandbox.
_FREEZING_HOST = """
import asyncio, sys
from pathlib import Path
from actors.sandbox.base import Limits
from actors.sandbox.docker import DockerBackend

async def main():
    sandbox = await DockerBackend(Path(sys.argv[1]), host=sys.argv[2]).create(Limits())
    await sandbox.pause()
    print("frozen", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def client(dockerd):
    client = docker.DockerClient(base_url=dockerd.host)
    yield client
    client.close()


@pytest.fixture
async def backend(cache, dockerd):
    made = DockerBackend(cache, host=dockerd.host)
    yield made
    await made.aclose()


def ours(client):
    return client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)


async def test_a_container_is_held_as_it_must_be(backend, client, limits):
    sandbox = await backend.create(limits)
    [container] = ours(client)
    held = container.attrs["HostConfig"]

    assert held["NetworkMode"] == "none"
    assert held["ReadonlyRootfs"]
    assert held["CapDrop"] == ["ALL"]
    assert not held["CapAdd"]
    assert not held["Privileged"]
    assert not held["Binds"]
    assert not container.attrs["Mounts"]  # no socket of the host's, and nothing else of it
    assert (held["Memory"], held["MemorySwap"]) == (limits.memory_bytes, limits.memory_bytes)
    assert held["PidsLimit"] == limits.pids + 1
    assert held["LogConfig"]["Type"] == "none"
    assert set(held["Tmpfs"]) == {"/workspace", "/tmp", "/dev/shm"}
    assert all("size=" in options and "nr_inodes=" in options for options in held["Tmpfs"].values())
    assert "no-new-privileges" in held["SecurityOpt"]
    assert any(option.startswith('seccomp={"defaultAction":"SCMP_ACT_ERRNO"') for option in held["SecurityOpt"])
    assert int(container.attrs["Config"]["User"].partition(":")[0]) >= 200_000
    await sandbox.destroy()


async def test_nothing_in_it_tells_of_the_machine(backend, limits):
    sandbox = await backend.create(limits)
    seen = await sandbox.shell("cat /etc/resolv.conf /etc/hosts; ls /sys; cat /proc/self/cgroup", timeout_s=10)

    assert socket.gethostname() not in seen.output
    assert "docker" not in seen.output
    assert [line for line in seen.output.splitlines() if line.startswith("nameserver")] in (
        [],
        ["nameserver 127.0.0.1"],
    )
    await sandbox.destroy()


async def test_destroy_leaves_no_container(backend, client, limits, eventually):
    sandbox = await backend.create(limits)
    await sandbox.shell("sleep 100 & echo on", timeout_s=10)
    await sandbox.destroy()

    await eventually(lambda: not ours(client))


async def test_inodes_are_bounded_too(backend, limits):
    sandbox = await backend.create(replace(limits, workspace_bytes=8 << 20))
    result = await sandbox.python(
        "import os\nmade = 0\ntry:\n    while True:\n        os.mkdir(str(made))\n        made += 1\n"
        "except OSError as error:\n    print(made, error.strerror)",
        timeout_s=30,
    )

    assert result.output.split(maxsplit=1)[1] == "No space left on device\n"
    assert int(result.output.split()[0]) <= 4096
    await sandbox.destroy()


async def test_death_of_the_host_process_ends_its_containers(
    cache, client, dockerd, processes, eventually, marker, backend
):
    await backend.build()
    command = [sys.executable, "-c", _HOST, str(cache), dockerd.host, f"setsid {marker} & echo on; {marker}"]
    host = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        assert await host.stdout.readline() == b"on\n"
    assert processes(marker)
    assert len(ours(client)) == 1

    host.send_signal(signal.SIGKILL)
    await host.wait()

    # Nobody else looks after them: the end of the connection is the end of the agent.
    await eventually(lambda: not processes(marker))
    await eventually(lambda: not ours(client))


async def test_what_its_host_left_frozen_is_removed_by_the_next(cache, client, dockerd, backend):
    """The agent in it does not notice that its connection has ended."""
    await backend.build()
    command = [sys.executable, "-c", _FREEZING_HOST, str(cache), dockerd.host]
    host = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        assert await host.stdout.readline() == b"frozen\n"
    host.send_signal(signal.SIGKILL)
    await host.wait()
    assert [container.status for container in ours(client)] == ["paused"]

    second = DockerBackend(cache, host=dockerd.host)
    await second.build()

    assert ours(client) == []
    await second.aclose()


async def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(backend, client, cache, dockerd):
    image = await backend.build()
    living = await backend.create(Limits())
    [theirs] = ours(client)
    owner = theirs.labels[LABEL]
    dead = owner.rpartition(":")[0] + ":1"  # a process of the same number that began at another time
    # One that does not notice that its connection has ended.
    left = client.containers.run(image, ["sleep", "1000"], labels={LABEL: dead}, network_mode="none", detach=True)

    second = DockerBackend(cache, host=dockerd.host)
    await second.build()

    assert [container.id for container in ours(client)] == [theirs.id]
    assert (await living.shell("echo alive", timeout_s=10)).output == "alive\n"
    with pytest.raises(docker.errors.NotFound):
        left.reload()
    await second.aclose()
    await living.destroy()


async def test_an_image_that_was_removed_is_made_again(backend, client, limits):
    image = await backend.build()
    client.images.remove(image, force=True)

    sandbox = await backend.create(limits)

    assert (await sandbox.shell("echo made", timeout_s=10)).output == "made\n"
    await sandbox.destroy()


async def test_the_image_is_imported_once(backend, client, cache, dockerd):
    name = await backend.build()
    first = client.images.get(name).id
    second = DockerBackend(cache, host=dockerd.host)

    assert await second.build() == name
    assert client.images.get(name).id == first
    await second.aclose()


async def test_images_of_earlier_versions_are_removed_unless_they_are_in_use(backend, client, dockerd):
    name = await backend.build()
    draft = client.containers.create(name, ["true"])
    for repository, tag in (("greenroom-sandbox", "unused"), ("greenroom-sandbox", "used"), ("somebody", "elses")):
        draft.commit(repository, tag=tag)
    in_use = client.containers.create("greenroom-sandbox:used", ["true"])
    engine = DockerEngine(dockerd.host)
    try:
        assert engine.drop_older(name, by_s=86400) == ()
        dropped = engine.drop_older(name, by_s=-86400)
        assert "greenroom-sandbox:unused" in dropped
        assert not {"greenroom-sandbox:used", "somebody:elses", name} & set(dropped)
        for kept in ("greenroom-sandbox:used", "somebody:elses", name):
            assert client.images.get(kept)
        in_use.remove()
        assert "greenroom-sandbox:used" in engine.drop_older(name, by_s=-86400)
    finally:
        engine.close()
        draft.remove()
        client.images.remove("somebody:elses")


async def test_an_image_of_the_users_own(backend, client, cache, dockerd, limits):
    """It has no agent, another working directory, an entry point that fails, and a file that shows which one it is."""
    ordinary = await backend.build()
    draft = client.containers.run(
        ordinary, ["sh", "-c", "rm -r /usr/lib/greenroom; echo mine > /usr/share/mine"], user="0", detach=True
    )
    assert draft.wait(timeout=30)["StatusCode"] == 0
    draft.commit("own", "test", changes=['ENTRYPOINT ["/bin/false"]', "WORKDIR /usr", 'CMD ["nothing"]'])
    draft.remove()
    own = DockerBackend(cache, host=dockerd.host, image="own:test")

    capability = await own.probe()
    sandbox = await own.create(limits)

    assert (capability.level, capability.missing) == (Level.CONTAINER, ())
    assert (await sandbox.shell("cat /usr/share/mine; pwd", timeout_s=10)).output == "mine\n/workspace\n"
    assert (await sandbox.python("print(6 * 7)", timeout_s=10)).output == "42\n"
    await own.aclose()


async def test_an_own_image_that_will_not_do_is_refused(backend, client, cache, dockerd):
    ordinary = await backend.build()
    client.containers.get(client.api.create_container(ordinary, ["true"])["Id"]).commit(
        "own", "volumes", changes=["VOLUME /data"]
    )
    for image, what, fix in (("no-such:image", "no-such:image", "docker pull"), ("own:volumes", "/data", "VOLUME")):
        own = DockerBackend(cache, host=dockerd.host, image=image)
        capability = await own.probe()
        assert capability.level is Level.NONE
        assert what in capability.missing[0].what
        assert fix in capability.missing[0].fix
        await own.aclose()


async def test_an_own_image_without_python_is_diagnosed(backend, client, cache, dockerd):
    ordinary = await backend.build()
    draft = client.containers.run(ordinary, ["sh", "-c", "rm /usr/bin/python*"], user="0", detach=True)
    draft.wait(timeout=30)
    draft.commit("own", "bare")
    draft.remove()
    own = DockerBackend(cache, host=dockerd.host, image="own:bare")
    capability = await own.probe()

    assert capability.level is Level.NONE
    assert "python3" in capability.missing[0].fix
    await own.aclose()


@pytest.mark.parametrize(
    ("host", "what"),
    [("unix:///no/such/docker.sock", "a docker daemon at"), ("tcp://127.0.0.1:2375", "no Unix socket")],
)
async def test_a_daemon_that_is_not_there(cache, host, what):
    backend = DockerBackend(cache, host=host)
    capability = await backend.probe()

    assert capability.level is Level.NONE
    assert what in capability.missing[0].what
    assert "GREENROOM_SANDBOX_DOCKER_HOST" in capability.missing[0].fix
    with pytest.raises(SandboxUnavailable):
        await backend.create(Limits())
    await backend.aclose()


async def test_a_daemon_that_does_not_answer(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("actors.sandbox.docker_engine._CONNECT_S", 0.3)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        backend = DockerBackend(cache, host=f"unix://{tmp_path / 's'}")
        async with asyncio.timeout(10):
            capability = await backend.probe()

    assert capability.level is Level.NONE
    assert "did not answer" in capability.missing[0].fix
    await backend.aclose()


async def test_the_end_of_the_daemon_is_said(cache, tmp_path, limits):
    daemon = Dockerd(tmp_path)
    await asyncio.to_thread(daemon.start)
    backend = DockerBackend(cache, host=daemon.host)
    began = asyncio.Event()
    sandbox = await backend.create(limits)
    running = asyncio.create_task(sandbox.shell("echo on; sleep 100", timeout_s=60, on_output=lambda _: began.set()))
    async with asyncio.timeout(30):
        await began.wait()

    await asyncio.to_thread(daemon.stop)

    assert (await running).verdict == "sandbox_lost"
    with pytest.raises(SandboxUnavailable):
        await backend.create(limits)
    await sandbox.destroy()
    await backend.aclose()
