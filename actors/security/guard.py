"""The policy before the sandboxes: each call, of a tool or a person, is judged here, audited, and then dispatched."""

import asyncio
import hashlib
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import SandboxUnavailable, StoreUnavailable
from ..core.ids import NewId
from ..core.text import mended_json
from ..sandbox.base import (
    CopyResult,
    ExecResult,
    FileSlice,
    FileStat,
    Listing,
    OnOutput,
    PolicyRefused,
    Sandboxes,
    SandboxStatus,
    WorkspaceError,
)
from .audit import Audit, AuditRecord, Decision
from .commands import Judgement, judge
from .file_rules import path_refusal, place, size_refusal
from .policy import ANY, Policy, Refusal
from .quarantine import Quarantine

log = structlog.stdlib.get_logger(__name__)

PYTHON = "python3"
AUDITED_CHARS = 16_000
"""So much of a command line or program is in the audit; its hash is of the whole."""

REMOVED_ENTRIES = 10_000
"""A folder with more in it is not removed at once: the policy looks at each name first."""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf something is asked for: of a tool call of the model, or of a person, who has no turn."""

    user_id: str
    session_id: str
    turn_id: str | None = None
    tool_call_id: str | None = None
    key_id: str | None = None
    """Of the API key that a person used; none by a handle."""

    def told(self) -> dict[str, Any]:
        """What the audit says of a person beside the columns; nothing of a model."""
        return {} if self.tool_call_id else {"by": "person", "key_id": self.key_id}


class SandboxGuard:
    """Sandboxes, and the policy that stands before them. One per process; `for_call` gives what a tool may use."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        policy: Policy,
        *,
        audit: Audit,
        quarantine: Quarantine | None,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self.sandboxes = sandboxes
        self.policy = policy
        self.quarantine = quarantine
        self._audit = audit
        self._clock = clock
        self._new_id = new_id

    def for_call(self, caller: Caller) -> "GuardedSandboxes":
        """The sandboxes as one tool call sees them."""
        return GuardedSandboxes(self, caller)

    def new_id(self) -> str:
        """The id of an audit record."""
        return self._new_id("aud")

    async def decide(
        self, caller: Caller, action: str, refusal: Refusal | None, detail: dict[str, Any], *, id_: str | None = None
    ) -> None:
        """Count, log and audit a decision. Raises `StoreUnavailable`: what cannot be audited is not done."""
        decision: Decision = "refused" if refusal else "allowed"
        telemetry.POLICY_DECISIONS.labels(action, decision, refusal.rule if refusal else "").inc()
        if refusal:
            ids = {"session_id": caller.session_id, "turn_id": caller.turn_id, "tool_call_id": caller.tool_call_id}
            log.warning("policy.refused", action=action, rule=refusal.rule, user_id=caller.user_id, **ids)
            detail = {**detail, "reason": refusal.reason}
        if refusal or self.policy.log_all_commands:
            await self.record(caller, action, decision, detail, rule=refusal.rule if refusal else None, id_=id_)

    async def record(
        self,
        caller: Caller,
        action: str,
        decision: Decision,
        detail: dict[str, Any],
        *,
        rule: str | None = None,
        id_: str | None = None,
    ) -> None:
        await self._audit.write(
            AuditRecord(
                id=id_ or self.new_id(),
                at=self._clock.now(),
                user_id=caller.user_id,
                action=action,
                decision=decision,
                session_id=caller.session_id,
                turn_id=caller.turn_id,
                tool_call_id=caller.tool_call_id,
                rule=rule,
                detail=mended_json({**caller.told(), **detail}),
            )
        )


class GuardedSandboxes:
    """`Sandboxes` on behalf of one caller. What the policy does not allow never reaches a sandbox.

    A refused command has the verdict `policy` and was not run; a refused file operation raises `PolicyRefused`.
    """

    def __init__(self, guard: SandboxGuard, caller: Caller) -> None:
        self._guard = guard
        self._caller = caller
        self._sandboxes = guard.sandboxes

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        return await self._run(
            "command.run",
            command,
            judge(command, self._guard.policy.commands),
            lambda: self._sandboxes.shell(session_id, command, timeout_s=timeout_s, on_output=on_output),
        )

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        return await self._run(
            "program.run",
            code,
            self._judge_python(),
            lambda: self._sandboxes.python(session_id, code, timeout_s=timeout_s, on_output=on_output, keep=keep),
            keep=keep,
        )

    async def read(self, session_id: str, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        found = await self._sandboxes.stat(session_id, path)
        refusal = self._path_refusal(path, found) or size_refusal(path, found.size_bytes, self._guard.policy.files)
        if refusal:
            await self._refuse("file.read", refusal, {"path": path, "leads_to": found.path})
        where = found.path if found.kind == "file" else path
        return await self._sandboxes.read(session_id, where, offset=offset, max_bytes=max_bytes)

    async def stat(self, session_id: str, path: str) -> FileStat:
        found = await self._sandboxes.stat(session_id, path)
        if refusal := self._path_refusal(path, found):
            await self._refuse("file.stat", refusal, {"path": path, "leads_to": found.path})
        return found

    async def write(self, session_id: str, path: str, data: bytes) -> None:
        rules = self._guard.policy.files
        detail = {"path": path, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        # By its name and size first: what cannot be allowed wherever it leads makes no sandbox. Then by where it
        # leads, which only the sandbox knows, because tool code may have put a link there.
        refusal = path_refusal(place(path), rules) or size_refusal(path, len(data), rules)
        if not refusal:
            found = await self._sandboxes.stat(session_id, path)
            refusal = self._path_refusal(path, found)
            detail["leads_to"] = found.path
            path = found.path if found.kind in ("file", "missing") else path
        if refusal:
            await self._refuse("file.write", refusal, detail, kept=data)
        await self._guard.decide(self._caller, "file.write", None, detail)
        await self._sandboxes.write(session_id, path, data)

    async def remove(self, session_id: str, path: str, *, recursive: bool = False) -> None:
        folder, name = posixpath.split(posixpath.normpath(path))
        found = await self._sandboxes.stat(session_id, folder or ".")
        # The name itself is removed, and not what it leads to.
        real = posixpath.normpath(posixpath.join(found.path, name))
        detail = {"path": path, "leads_to": real, "recursive": recursive}
        rules = self._guard.policy.files
        refusal = path_refusal(place(path), rules) or path_refusal(place(real), rules)
        if recursive and not refusal:
            refusal = await self._refusal_below(session_id, real)
        if refusal:
            await self._refuse("file.remove", refusal, detail)
        await self._guard.decide(self._caller, "file.remove", None, detail)
        await self._sandboxes.remove(session_id, real, recursive=recursive)

    async def _refusal_below(self, session_id: str, path: str) -> Refusal | None:
        """What is in a folder that goes with it: all of it has to be allowed."""
        if (await self._sandboxes.stat(session_id, path)).kind != "folder":
            return None
        below = await self._sandboxes.list(session_id, path, max_entries=REMOVED_ENTRIES + 1)
        if below.cut or len(below) > REMOVED_ENTRIES:
            raise WorkspaceError(f"{path} holds more than {REMOVED_ENTRIES:,} files and folders; remove parts of it.")
        rules = self._guard.policy.files
        return next((refusal for info in below if (refusal := path_refusal(place(info.path), rules))), None)

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> Listing:
        found = await self._sandboxes.stat(session_id, path)
        if refusal := self._path_refusal(path, found):
            await self._refuse("file.list", refusal, {"path": path, "leads_to": found.path})
        rules = self._guard.policy.files
        wanted = max_entries
        while True:
            listed = await self._sandboxes.list(session_id, path, max_entries=wanted)
            shown = tuple(info for info in listed if path_refusal(place(info.path), rules) is None)
            if listed.cut or len(listed) < wanted or len(shown) >= max_entries:
                return Listing(shown[:max_entries], cut=listed.cut)
            wanted *= 2  # what is not shown must not make a listing that was cut look whole

    async def holds(self, session_id: str) -> bool:
        return await self._sandboxes.holds(session_id)

    async def copy(self, source: str, target: str) -> CopyResult:
        return await self._sandboxes.copy(source, target)

    async def interrupt(self, session_id: str) -> None:
        await self._sandboxes.interrupt(session_id)

    async def release(self, session_id: str) -> None:
        await self._sandboxes.release(session_id)

    async def status(self) -> SandboxStatus:
        return await self._sandboxes.status()

    async def _run(
        self,
        action: str,
        source: str,
        judgement: Judgement,
        run: Callable[[], Awaitable[ExecResult]],
        *,
        keep: bool = False,
    ) -> ExecResult:
        detail: dict[str, Any] = {
            "source": source[:AUDITED_CHARS],
            "sha256": hashlib.sha256(source.encode("utf-8", "replace")).hexdigest(),
            "programs": list(judgement.programs),
        }
        if keep:
            # What it does depends on the programs before it in the same interpreter.
            detail["keep"] = True
        await self._guard.decide(self._caller, action, judgement.refusal, detail)
        if judgement.refusal:
            return ExecResult("policy", None, self._told(judgement.refusal))
        try:
            result = await run()
        except SandboxUnavailable as error:
            await self._end(action, {"verdict": error.code, "sha256": detail["sha256"]})
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._end(action, {"verdict": "cancelled", "sha256": detail["sha256"]}))
            raise
        output = hashlib.sha256(result.output.encode("utf-8", "replace")).hexdigest()
        ended = {
            "verdict": result.verdict,
            "exit_code": result.exit_code,
            "wall_s": round(result.wall_s, 3),
            "cpu_s": result.cpu_s,
            "peak_memory_bytes": result.peak_memory_bytes,
            "output_bytes": result.output_bytes,
        }
        await self._end(action, {**ended, "sha256": detail["sha256"], "output_sha256": output})
        return result

    async def _end(self, action: str, detail: dict[str, Any]) -> None:
        """How it went. That it was begun is durable already, so a result is not thrown away when this cannot be."""
        if not self._guard.policy.log_all_commands:
            return
        try:
            await self._guard.record(self._caller, action, "ended", detail)
        except StoreUnavailable:
            log.exception("audit.end_lost", action=action, tool_call_id=self._caller.tool_call_id)

    def _judge_python(self) -> Judgement:
        allowed = self._guard.policy.commands.allowed
        if PYTHON in allowed or ANY in allowed:
            return Judgement((PYTHON,))
        return Judgement(
            refusal=Refusal("allowed_commands", f"the program {PYTHON} is not among those that are allowed")
        )

    def _told(self, refusal: Refusal) -> str:
        if refusal.rule != "allowed_commands":
            return f"The policy does not allow this: {refusal.reason}."
        names = ", ".join(sorted(self._guard.policy.commands.allowed))
        return f"The policy does not allow this: {refusal.reason}. Allowed are: {names}."

    def _path_refusal(self, path: str, found: FileStat) -> Refusal | None:
        """By the path as it was asked for, by where it leads, and by what is there."""
        rules = self._guard.policy.files
        if refusal := path_refusal(place(path), rules) or path_refusal(place(found.path), rules):
            return refusal
        if found.kind == "special":
            return Refusal("regular_files", f"{path} is not a regular file")
        return None

    async def _refuse(
        self, action: str, refusal: Refusal, detail: dict[str, Any], *, kept: bytes | None = None
    ) -> NoReturn:
        id_ = self._guard.new_id()
        if kept and self._guard.quarantine:
            detail = {**detail, "quarantined": await self._guard.quarantine.keep(id_, kept)}
        await self._guard.decide(self._caller, action, refusal, detail, id_=id_)
        raise PolicyRefused(f"The policy does not allow this: {refusal.reason}.")
