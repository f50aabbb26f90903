"""A PostgreSQL server of one's own, where Debian's or another package of it is installed."""

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ppl_assets_tests.web_ui import free_port


@contextmanager
def postgresql() -> Iterator[tuple[int, str]]:
    """Port on loopback and password of a server with a database and a user ``dagster``."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    # The server refuses to run as root.
    shutil.chown(folder, "postgres", "postgres")
    password, port = secrets.token_hex(8), free_port()
    (folder / "password").write_text(password)
    shutil.chown(folder / "password", "postgres")

    def as_postgres(*command: str) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *command], cwd=folder, check=True, capture_output=True)

    data = str(folder / "data")
    secret = ["--auth", "scram-sha-256", "--pwfile", str(folder / "password")]
    as_postgres(str(binaries / "initdb"), "-D", data, "-U", "dagster", *secret)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    log = str(folder / "log")
    as_postgres(str(binaries / "pg_ctl"), "-D", data, "-w", "-t", "300", "-l", log, "-o", options, "start")
    try:
        _create_database(port, password)
        yield port, password
    finally:
        as_postgres(str(binaries / "pg_ctl"), "-D", data, "-m", "fast", "stop")
        shutil.rmtree(folder)


def _binaries() -> Path:
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return found.parent
    return pytest.skip("PostgreSQL is absent")


def _create_database(port: int, password: str) -> None:
    import psycopg2

    connection = psycopg2.connect(host="127.0.0.1", port=port, user="dagster", password=password, dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE dagster")
    connection.close()
