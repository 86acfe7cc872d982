"""One suite for every object store: memory, a folder, and an S3 server in a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.store.objects import ObjectStore
from actors.store.obstore_objects import open_objects
from actors.testing.s3 import BUCKET, S3Server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with credentials in the environment, where obstore looks for them."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    match request.param:
        case "memory":
            return open_objects("memory://")
        case "folder":
            return open_objects(str(tmp_path / "objects"))
        case _:
            server: S3Server = request.getfixturevalue("s3")
            return open_objects(f"s3://{BUCKET}/{tmp_path.name}", endpoint=server.endpoint, allow_http=True)
