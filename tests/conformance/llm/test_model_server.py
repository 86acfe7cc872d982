"""`greenroom model-server` as people start it: a process with an address, and a bill when it ends."""

import json
import re
import signal
import subprocess
import sys

import httpx
import pytest

START = "import sys; from cluster.cli import main; sys.argv[1:1] = ['model-server']; main()"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_and_at_the_end_its_bill(end):
    process = subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        answer = httpx.post(f"{url}/chat/completions", json=body, timeout=20).json()
        record = httpx.get(f"{url}/generation", params={"id": answer["id"]}, timeout=20).json()["data"]
        bill = httpx.get(url.replace("/v1", "/_bill"), timeout=20).json()
        process.send_signal(end)
        rest, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert json.loads(rest) == bill
    assert record["total_cost"] == answer["usage"]["cost"] == pytest.approx(float(bill["cost_usd"]))
    assert (process.returncode, errors) == (0, "")
