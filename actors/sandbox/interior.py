"""What every sandbox looks like inside, whoever makes it: its environment, its writable folders, its agent."""

from dataclasses import replace

from ..core.errors import SandboxUnavailable
from .base import Limits
from .inside.bridge import PORT
from .inventory import AGENT_FOLDER, CERTIFICATES

MIB = 1024 * 1024
WORKSPACE = "/workspace"

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORKSPACE,
    "USER": "sandbox",
    "LOGNAME": "sandbox",
    "SHELL": "/bin/sh",  # which bash would look up otherwise, each time
    "TMPDIR": "/tmp",  # noqa: S108  the sandbox's own
    # Not LANG: then each program would open a dozen files, of which eleven say what C says.
    "LC_CTYPE": "C.UTF-8",
    "TERM": "dumb",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_PROXY = f"http://127.0.0.1:{PORT}"
_WAY_OUT = (
    dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _PROXY)
    # What a sandbox serves to itself.
    | dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1,::1")
)
_CERTIFICATES = dict.fromkeys(
    ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"), f"/{CERTIFICATES}"
)
CANARY_LIMITS = replace(Limits(), memory_bytes=256 * MIB, workspace_bytes=8 * MIB, pids=16, command_s=10.0)

_TMP_BYTES = 64 * MIB
_SHM_BYTES = 16 * MIB
_HEAP_BYTES = 32 * MIB


def environment(*, has_way_out: bool, is_own_root: bool = True) -> dict[str, str]:
    """The variables of a sandbox. One with a root filesystem of the user's own trusts the certificates in it."""
    if not has_way_out:
        return dict(ENVIRONMENT)
    return ENVIRONMENT | _WAY_OUT | (_CERTIFICATES if is_own_root else {})


def agent_program(*, answers_fd: int = 0) -> str:
    """Python that becomes the agent. It answers on `answers_fd`: standard input itself where that is a socket."""
    start = f"import sys; sys.path[:0] = ['/{AGENT_FOLDER}']; from _greenroom.agent import main; del sys.path[0]"
    return f"{start}; main({answers_fd or ''})"


def writable_folders(limits: Limits) -> tuple[tuple[str, int], ...]:
    """Folders in memory, and how many bytes each may hold."""
    return (
        ("/dev/shm", min(_SHM_BYTES, limits.workspace_bytes)),  # noqa: S108  the sandbox's own
        ("/tmp", tmp_bytes(limits)),  # noqa: S108
        (WORKSPACE, limits.workspace_bytes),
    )


def tmp_bytes(limits: Limits) -> int:
    """How many bytes /tmp may hold."""
    return min(_TMP_BYTES, limits.workspace_bytes)


def check_workspace_fits(limits: Limits) -> None:
    """Raises SandboxUnavailable where a full workspace would leave no memory for programs."""
    if limits.workspace_bytes + _HEAP_BYTES > limits.memory_bytes:
        raise SandboxUnavailable(
            f"A workspace of {limits.workspace_bytes} bytes lies in memory and does not fit in "
            f"{limits.memory_bytes} bytes with {_HEAP_BYTES} for programs; allow more memory or less workspace."
        )
