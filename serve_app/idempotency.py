"""`Idempotency-Key`: a request that is sent again does what it did, once.

The ids of what a request makes are derived from the user, the route and the key, so that the journal itself
is the memory of keys: a repeat is recognised by its ids, and told from another request by the fingerprint of
its body that is kept with them. Nothing is kept of a request that was not accepted.
"""

import hashlib
import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from fastapi import Depends, Header, Request
from pydantic import AfterValidator, BaseModel
from starlette.responses import Response

from actors.agent.book import SessionBook, TurnRow
from actors.core.errors import IdempotencyKeyReused, InvalidInput, TurnNotFound
from actors.core.ids import Kind, NewId, derived_id
from actors.security.keys import Principal

REPLAYED = "Idempotency-Replayed"
"""Header of an answer to a request that had been accepted before."""

_KEY = re.compile(r"[!-~]{1,255}")
_NAME = "Idempotency-Key"


def _check_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("a key has 1 to 255 visible ASCII characters, e.g. a UUID")
    return key


async def _read_key(  # asynchronous, or FastAPI asks a thread for it
    request: Request,
    idempotency_key: Annotated[
        Annotated[str, AfterValidator(_check_key)] | None,
        Header(
            description=(
                "Makes the request safe to repeat: choose a new key for each request, and send the same one with each "
                "repeat of it. 1 to 255 visible ASCII characters."
            ),
            examples=["7f3c1f0e-5d7a-4f0b-9a3b-0f4e8f6a2c11"],
        ),
    ] = None,
) -> str | None:
    if len(request.headers.getlist(_NAME)) > 1:
        raise InvalidInput(f"{_NAME} was given more than once")
    return idempotency_key


IdempotencyKey: TypeAlias = Annotated[str | None, Depends(_read_key)]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a request calls the things that it makes. A repeat under the same key calls them the same."""

    new_id: NewId
    fingerprint: str | None = None
    """Of the body; None without a key."""

    @classmethod
    def of(
        cls, key: str | None, principal: Principal, route: str, body: BaseModel, *, fresh: NewId, **place: str
    ) -> "Identity":
        """`place` is what the address says beside the route; `fresh` makes ids where there is no key."""
        if key is None:
            return cls(fresh)

        def derive(kind: Kind) -> str:
            return derived_id(kind, principal.user_id, route, key)

        return cls(derive, _fingerprint(body, place))

    async def earlier_turn(self, book: SessionBook, user_id: str) -> TurnRow | None:
        """The turn of the message that the request brought before. Raises `IdempotencyKeyReused`."""
        if self.fingerprint is None:
            return None
        try:
            row = await book.turn(self.new_id("turn"), user_id)
        except TurnNotFound:
            return None
        self.check(row.fingerprint, session_id=row.session_id, turn_id=row.id)
        return row

    def check(self, fingerprint: str | None, **found: str) -> None:
        """Raises `IdempotencyKeyReused` when what was found was made by another body."""
        if fingerprint != self.fingerprint:
            raise IdempotencyKeyReused(**found)


def _fingerprint(body: BaseModel, place: dict[str, str]) -> str:
    # Without defaults, so that a member that a later version knows does not change it. Without `stream`, so
    # that a client whose stream broke may ask for the whole answer.
    said = {**body.model_dump(mode="json", exclude={"stream"}, exclude_defaults=True), **place}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def marked(response: Response, *, replayed: bool) -> Response:
    """The response, which says so when it answers a repeat."""
    if replayed:
        response.headers[REPLAYED] = "true"
    return response


@dataclass(slots=True)
class Underway:
    """Keyed requests that this process is accepting at the moment.

    Two bodies under one key are told apart here before either is in a journal: sent to two sessions at once
    each would look like the first.
    """

    _held: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])

    @contextmanager
    def hold(self, identity: Identity) -> Generator[None]:
        """Raises `IdempotencyKeyReused` while another body is held under the same key."""
        if identity.fingerprint is None:
            yield
            return
        request = identity.new_id("req")
        fingerprint, count = self._held.get(request, (identity.fingerprint, 0))
        identity.check(fingerprint)
        self._held[request] = fingerprint, count + 1
        try:
            yield
        finally:
            fingerprint, count = self._held.pop(request)
            if count > 1:
                self._held[request] = fingerprint, count - 1
