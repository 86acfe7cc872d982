"""The object store, and what is kept there of sandboxes."""

from ..core.clock import Clock
from ..core.settings import Settings
from ..sandbox.keeping import Keeping, KeptWorkspaces, NothingKept
from ..security.cipher import Cipher, ClearText
from ..security.sealed_snapshots import SealedSnapshots
from ..security.sealing import read_keys
from ..store.objects import ObjectStore
from ..store.obstore_objects import open_objects
from .limits import MIB


def object_store(settings: Settings) -> ObjectStore:
    """Raises `InvalidInput` for an address that names no store."""
    return open_objects(
        settings.resolved_object_store_url,
        endpoint=settings.object_store_endpoint,
        allow_http=settings.object_store_allow_http,
        timeout_s=settings.object_store_timeout_s,
    )


def workspaces(settings: Settings, clock: Clock) -> Keeping:
    """What becomes of workspaces when their sandboxes end."""
    if not settings.sandbox_snapshot_mb:
        return NothingKept()
    return KeptWorkspaces(snapshots(settings, clock), max_bytes=settings.sandbox_snapshot_mb * MIB, clock=clock)


def snapshots(settings: Settings, clock: Clock) -> SealedSnapshots:
    return SealedSnapshots(object_store(settings), cipher(settings), clock=clock)


def cipher(settings: Settings) -> Cipher:
    """What the object store's contents pass. Raises `InvalidInput` for a file of keys that is none."""
    return ClearText() if settings.object_keys_path is None else read_keys(settings.object_keys_path)
