"""Secrets that lie in files: they reach the process that opens the store, and no settings."""

import pickle

import pytest
from sqlalchemy import make_url

from actors.core.settings import Settings
from actors.wiring.store import database_address

URL = "postgresql+psycopg://greenroom@postgres:5433/greenroom?sslmode=require"


def test_the_password_of_a_file_is_put_into_the_address(tmp_path):
    file = tmp_path / "password"
    file.write_text("p@ss/w:rd\n")
    settings = Settings(database_url=URL, database_password_path=file)

    url = make_url(database_address(settings))

    assert url.password == "p@ss/w:rd"
    assert (url.username, url.host, url.port, url.database) == ("greenroom", "postgres", 5433, "greenroom")
    assert url.query == {"sslmode": "require"}
    assert b"p@ss" not in pickle.dumps(settings)


def test_without_a_file_the_address_is_as_it_was_given(tmp_path):
    assert database_address(Settings(database_url=URL)) == URL
    assert database_address(Settings(home=tmp_path)) == f"sqlite:///{tmp_path / 'greenroom.db'}"


def test_a_file_that_is_not_there_is_named(tmp_path):
    settings = Settings(database_url=URL, database_password_path=tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="gone"):
        database_address(settings)


def test_the_pepper_may_lie_elsewhere(tmp_path):
    assert Settings(home=tmp_path).pepper_file == tmp_path / "pepper"
    assert Settings(home=tmp_path, pepper_path=tmp_path / "secret").pepper_file == tmp_path / "secret"
