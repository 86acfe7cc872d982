"""The policy that the settings set, what stands guard by it, and where what it refuses is kept."""

from ..core.clock import Clock
from ..core.ids import NewId
from ..core.settings import Settings
from ..sandbox.base import Sandboxes
from ..security.audit import Audit
from ..security.guard import SandboxGuard
from ..security.policy import CommandPolicy, FilePolicy, Policy
from ..security.quarantine import Quarantine
from .limits import MIB


def sandbox_policy(settings: Settings) -> Policy:
    return Policy(
        CommandPolicy(frozenset(settings.policy_allowed_commands), settings.policy_blocked_patterns),
        FilePolicy(
            settings.policy_allowed_directories,
            settings.policy_blocked_files,
            max_file_bytes=settings.policy_max_file_mb * MIB,
        ),
        log_all_commands=settings.policy_log_all_commands,
    )


def sandbox_guard(
    settings: Settings, sandboxes: Sandboxes, *, audit: Audit, clock: Clock, new_id: NewId
) -> SandboxGuard:
    return SandboxGuard(
        sandboxes,
        sandbox_policy(settings),
        audit=audit,
        quarantine=quarantine(settings),
        clock=clock,
        new_id=new_id,
    )


def quarantine(settings: Settings) -> Quarantine | None:
    if not settings.policy_quarantine:
        return None
    return Quarantine(settings.quarantine_dir, max_bytes=settings.policy_quarantine_max_mb * MIB)
