"""Where a model server is, and what every request to it carries."""

import hashlib
from dataclasses import replace

import httpx

from ..core.errors import InvalidInput
from .base import ModelRequest
from .chat_request import ChatDialect


def checked_base_url(base_url: str) -> str:
    """The base URL without its last slash. Raises `InvalidInput` for one that is none."""
    root = base_url.strip().rstrip("/")
    if root.endswith("/chat/completions"):
        raise InvalidInput(f"the base URL of the model server ends before /chat/completions, it is {root[:-17]}")
    try:
        url = httpx.URL(root)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"the base URL of the model server is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput(f"the base URL of the model server must begin with http:// or https://, not {root!r}")
    return root


def request_headers(api_key: str, dialect: ChatDialect) -> httpx.Headers:
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",  # a compressor between us and the model would hold tokens back
        "User-Agent": "greenroom",
    }
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    if dialect.gateway_members:
        headers["X-OpenRouter-Title"] = "Greenroom"
    return httpx.Headers(headers)


def pseudonymous(request: ModelRequest, api_key: str) -> ModelRequest:
    """The request with names for session and user that stay the same, and from which nobody reads the real ones."""

    def pseudonym(ref: str | None) -> str | None:
        key = hashlib.sha256(api_key.encode()).digest()
        return ref and hashlib.blake2b(ref.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()

    return replace(request, session_ref=pseudonym(request.session_ref), user_ref=pseudonym(request.user_ref))
