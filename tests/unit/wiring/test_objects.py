"""Where workspaces go, as the settings say."""

import pytest

from actors.core.clock import SystemClock
from actors.core.errors import InvalidInput
from actors.core.settings import Settings
from actors.sandbox.keeping import KeptWorkspaces, NothingKept
from actors.wiring.objects import object_store, workspaces


async def test_by_default_they_are_in_a_folder_of_the_home_folder(tmp_path):
    settings = Settings(home=tmp_path / "home")
    await object_store(settings).put("a/b", b"x")
    assert (tmp_path / "home" / "objects" / "a" / "b").read_bytes() == b"x"
    assert isinstance(workspaces(settings, SystemClock()), KeptWorkspaces)


def test_with_no_room_for_them_none_is_kept_and_no_store_opened(tmp_path):
    settings = Settings(home=tmp_path / "home", sandbox_snapshot_mb=0)
    assert isinstance(workspaces(settings, SystemClock()), NothingKept)
    assert not (tmp_path / "home").exists()


def test_plain_http_must_be_allowed():
    address = {"object_store_url": "s3://bucket/prefix", "object_store_endpoint": "http://127.0.0.1:9000"}
    with pytest.raises(InvalidInput, match="not https"):
        object_store(Settings(**address))
    object_store(Settings(**address, object_store_allow_http=True))
