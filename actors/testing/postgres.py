"""A PostgreSQL server of its own, for tests and benchmarks: a folder, a Unix socket, no port."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import sqlalchemy as sa


class Postgres:
    """A server in a folder of its own, reached by a Unix socket. It commits to disk as the real one does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = _programs()
        # PostgreSQL refuses to run as root; Debian's package made a user for it.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)

    def create(self) -> None:
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c max_connections=100"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w", "-o", options, "start"
        )

    def stop(self) -> None:
        """As when the machine fails: connections break, nothing is said."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def sql(self, statement: str) -> Any:
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                result = connection.execute(sa.text(statement))
                return result.all() if result.returns_rows else None
        finally:
            engine.dispose()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(  # noqa: S603 - programs of the server that was found, arguments of our own
            command, user=self._user, capture_output=True, text=True, cwd=self.folder, timeout=60, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")


def _programs() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = installed[-1] if installed else shutil.which("initdb")
    if not found:
        raise FileNotFoundError("no PostgreSQL server is installed here: install the package `postgresql`")
    return Path(found).parent
