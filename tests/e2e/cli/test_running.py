"""One cluster, as `greenroom up --detach` leaves it: its doors, its state, and what every command says of it."""

import ipaddress
import json
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(240)


def get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def listening(run_id: str) -> dict[tuple[str, int], str]:
    """Addresses on which processes of the run listen, with the name of the process."""
    sockets: dict[str, tuple[str, int]] = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                sockets[f"socket:[{fields[9]}]"] = (socket.inet_ntop(family, b"".join(words)), int(port, 16))
    found: dict[tuple[str, int], str] = {}
    for folder in Path("/proc").iterdir():
        try:
            if not folder.name.isdigit() or f"GREENROOM_RUN={run_id}".encode() not in (folder / "environ").read_bytes():
                continue
            name = (folder / "comm").read_text().strip()
            for descriptor in (folder / "fd").iterdir():
                if (place := sockets.get(str(descriptor.readlink()))) is not None:
                    found[place] = name
        except OSError:
            continue
    return found


def is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def test_up_prints_where_everything_is(running):
    url = f"http://127.0.0.1:{running.port}"
    key = (running.home.folder / "admin.key").read_text().strip()
    for line in (f"{url}/#key={key}", f"{url}/docs", f"{url}/metrics", running.home.state["dashboard_url"]):
        assert line in running.printed
    for part in ("Model", "Database", "Memory", "Sandbox", "embedded", str(running.home.folder)):
        assert part in running.printed
    assert "demo" in running.printed


def test_up_returns_when_it_is_ready(running):
    assert get(f"http://127.0.0.1:{running.port}/ready")[0] == 200


def test_the_page_behind_the_link(running):
    status, page = get(f"http://127.0.0.1:{running.port}/")
    assert status == 200
    assert "<html" in page


def test_secrets_are_its_owners_alone(running):
    for name in ("admin.key", "ray.token", "pepper", "run.json", "logs/up.log"):
        assert stat.S_IMODE((running.home.folder / name).stat().st_mode) == 0o600, name
    key = (running.home.folder / "admin.key").read_text().strip()
    assert key not in (running.home.folder / "logs" / "up.log").read_text()


def test_nothing_listens_beyond_this_machine(running):
    """But for one port of Serve's replica, which asks for the cluster's token."""
    places = listening(running.home.state["run_id"])
    assert ("127.0.0.1", running.port) in places
    outside = [(address, port, name) for (address, port), name in places.items() if not is_loopback(address)]
    assert [name for _, _, name in outside] in ([], ["ray::ServeRepli"]), outside


def test_the_dashboard_asks_for_the_token(running):
    token = (running.home.folder / "ray.token").read_text()
    jobs = f"{running.home.state['dashboard_url']}/api/jobs/"
    deadline = time.monotonic() + 60
    while True:  # the dashboard comes up beside the rest, and may be a moment later
        try:
            assert get(jobs)[0] == 401
            break
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert get(jobs, Authorization=f"Bearer {token}")[0] == 200


def test_status(running):
    done = running.home.greenroom("status")
    assert done.returncode == 0
    for part in (f"http://127.0.0.1:{running.port}", "session actors", "sandbox", "healthy", "processes below it"):
        assert part in done.stdout


def test_a_second_up_names_the_first(running):
    done = running.home.greenroom("up", "--detach", "--port", "1")
    assert done.returncode == 1
    assert f"pid {running.home.state['pid']}" in done.stderr
    assert f"http://127.0.0.1:{running.port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert get(f"http://127.0.0.1:{running.port}/ready")[0] == 200


def test_its_port_is_taken_for_another_home(running, home):
    done = home.greenroom("up", "--detach", "--port", str(running.port))
    assert done.returncode == 1
    assert f"Port {running.port}" in done.stderr
    assert "greenroom up --port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_chat_says_the_answer_in_a_pipe(running):
    done = running.home.greenroom("chat", "--message", "compute 2**64 in python")
    assert done.returncode == 0, done.stderr
    assert "18446744073709551616" in done.stdout
    assert "run_python" in done.stderr
    assert "tokens" in done.stderr


def test_chat_reads_a_pipe_and_goes_on_in_a_session(running):
    first = running.home.greenroom("chat", stdin="hello")
    assert first.returncode == 0, first.stderr
    key = (running.home.folder / "admin.key").read_text().strip()
    sessions = get(f"http://127.0.0.1:{running.port}/api/v1/sessions", Authorization=f"Bearer {key}")[1]
    session = json.loads(sessions)["data"][0]
    again = running.home.greenroom("chat", "--session", session["id"], "-m", "hello again")
    assert again.returncode == 0, again.stderr
    events = f"http://127.0.0.1:{running.port}/api/v1/sessions/{session['id']}/events"
    kinds = [event["type"] for event in json.loads(get(events, Authorization=f"Bearer {key}")[1])["data"]]
    assert kinds.count("turn.completed") == 2


def test_chat_says_what_is_wrong(running, tmp_path):
    done = running.home.greenroom("chat", "--session", "no-such-session", "-m", "hi")
    assert done.returncode == 1
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr

    key_file = tmp_path / "key"
    key_file.write_text("grk_wrong")
    done = running.home.greenroom(
        *("chat", "--url", f"http://127.0.0.1:{running.port}", "--key-file", str(key_file), "-m", "hi")
    )
    assert done.returncode == 1
    assert "key" in done.stderr


def test_a_process_outside_can_connect(running):
    done = running.home.greenroom("env")
    variables = dict(
        line.removeprefix("export ").replace("'", "").split("=", 1) for line in done.stdout.strip().splitlines()
    )
    program = (
        "import ray; ray.init(log_to_driver=False); "
        "print(sorted(a['name'] for a in ray.util.list_named_actors(all_namespaces=True)))"
    )
    inside = subprocess.run(
        [sys.executable, "-c", program],
        env={**running.home.environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "'session:" in inside.stdout
    assert "'directory'" in inside.stdout


def test_without_the_token_nobody_connects(running):
    variables = {"RAY_ADDRESS": running.home.state["ray_address"], "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
    program = (
        "from ray._raylet import GcsClient\n"
        "import os, sys\n"
        "try:\n"
        "    GcsClient(os.environ['RAY_ADDRESS']).internal_kv_keys(b'', None, 5)\n"
        "except BaseException as error:\n"
        "    sys.exit(f'refused: {error}')\n"
    )
    with pytest.raises(subprocess.CalledProcessError) as caught:
        subprocess.run(
            [sys.executable, "-c", program],
            env={**running.home.environment, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert "token" in caught.value.stderr.lower()
