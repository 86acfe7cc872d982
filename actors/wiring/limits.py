"""The limits that the settings set, for the sandboxes and for the tools that tell the model of them."""

from ..core.settings import Settings
from ..sandbox.base import Limits

MIB = 1024 * 1024


def sandbox_limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes=settings.sandbox_memory_mb * MIB,
        cpus=settings.sandbox_cpus,
        pids=settings.sandbox_pids,
        workspace_bytes=settings.sandbox_workspace_mb * MIB,
        file_bytes=settings.policy_max_file_mb * MIB,
        command_s=settings.sandbox_command_s,
    )
