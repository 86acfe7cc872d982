"""How events, profiles and outcomes become the bytes of a row, and back, through the cipher."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from ..core.events import BODY, Body, Event, TurnCancelled, TurnCompleted, TurnFailed
from ..security.cipher import Cipher
from .journal import Profile

_PROFILE = TypeAdapter(Profile)


@dataclass(frozen=True, slots=True)
class Payloads:
    """Seals with the key of the session's user; the place of each payload is authenticated with it."""

    cipher: Cipher

    def event_row(self, event: Event, user_id: str) -> dict[str, Any]:
        body = BODY.dump_json(event.body)
        return {
            "session_id": event.session_id,
            "seq": event.seq,
            "turn_id": event.turn_id,
            "type": event.body.type,
            "created_at": event.created_at,
            "payload": self.cipher.seal(body, owner=user_id, place=f"events/{event.session_id}/{event.seq}"),
        }

    def event(
        self, *, session_id: str, seq: int, turn_id: str | None, created_at: datetime, payload: bytes, user_id: str
    ) -> Event:
        body = self.cipher.unseal(payload, owner=user_id, place=f"events/{session_id}/{seq}")
        return Event(seq, session_id, turn_id, created_at, BODY.validate_json(body))

    def seal_profile(self, profile: Profile, *, session_id: str, user_id: str) -> bytes:
        return self.cipher.seal(_PROFILE.dump_json(profile), owner=user_id, place=f"sessions/{session_id}")

    def profile(self, payload: bytes, *, session_id: str, user_id: str) -> Profile:
        return _PROFILE.validate_json(self.cipher.unseal(payload, owner=user_id, place=f"sessions/{session_id}"))

    def seal_outcome(self, body: TurnCompleted | TurnFailed | TurnCancelled, *, turn_id: str, user_id: str) -> bytes:
        return self.cipher.seal(BODY.dump_json(body), owner=user_id, place=f"turns/{turn_id}")

    def outcome(self, payload: bytes, *, turn_id: str, user_id: str) -> Body:
        return BODY.validate_json(self.cipher.unseal(payload, owner=user_id, place=f"turns/{turn_id}"))

    def seal_approval(self, body: Body, *, approval_id: str, part: str, user_id: str) -> bytes:
        """`part` is `request` or `resolution`."""
        return self.cipher.seal(BODY.dump_json(body), owner=user_id, place=f"approvals/{approval_id}/{part}")

    def approval(self, payload: bytes, *, approval_id: str, part: str, user_id: str) -> Body:
        return BODY.validate_json(self.cipher.unseal(payload, owner=user_id, place=f"approvals/{approval_id}/{part}"))
