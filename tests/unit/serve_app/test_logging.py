"""What the edge writes to its log."""

import json
import os
import subprocess
import sys

SCRIPT = """
import structlog
from actors.core import telemetry

telemetry.configure_logging("info")
log = structlog.get_logger("greenroom.test")

def call_the_gateway(api_key, message):
    raise RuntimeError("it broke")

try:
    call_the_gateway("sk-secret", "what the user said")
except RuntimeError:
    log.exception("turn crashed", session_id="sess_1")
log.debug("not shown")
"""


def run() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, env=os.environ, timeout=60
    )


def test_the_log_goes_to_standard_error_as_json_lines():
    done = run()

    assert done.stdout == ""
    entry = json.loads(done.stderr)
    assert (entry["event"], entry["level"], entry["session_id"]) == ("turn crashed", "error", "sess_1")
    assert "it broke" in done.stderr


def test_a_traceback_shows_no_values():
    """Values of variables are keys, and what users said."""
    done = run()

    assert "sk-secret" not in done.stdout + done.stderr
    assert "what the user said" not in done.stdout + done.stderr
