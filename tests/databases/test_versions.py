"""The versions that a server may have: Debian's SQLAlchemy 1.4 in the system's Python, 2.x, psycopg2 and psycopg."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.databases import exercise
from tests.server.process import SYSTEM_PATH

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.databases.conftest import AnyDatabase
    from tests.databases.servers import Postgres

SYSTEM_PYTHON = "/usr/bin/python3"


def test_the_server_s_own_python(database: AnyDatabase, table: str) -> None:
    """Warnings are errors, those about what 2.0 has removed too."""
    done = subprocess.run(
        [SYSTEM_PYTHON, "-I", "-bb", "-W", "error", str(Path(exercise.__file__)), database.url, table],
        env={"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "SQLALCHEMY_WARN_20": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    version, driver = done.stdout.split()
    assert driver == {"sqlite": "pysqlite", "mysql": "pymysql", "postgres": "psycopg2"}[database.kind]
    if Path("/etc/debian_version").read_text("ascii").startswith("12"):
        assert version.startswith("1.4.")
    assert done.stderr == ""


def test_this_python(database: AnyDatabase, table: str) -> None:
    exercise.exercise(database.url, table)


def test_postgres_through_psycopg(postgres: Postgres, table: str, mocker: MockerFixture) -> None:
    """Where psycopg2 is not installed."""
    mocker.patch.dict(sys.modules, {"psycopg2": None})
    assert exercise.exercise(postgres.url, table) == "psycopg"


def test_the_plainest_locale(database: AnyDatabase, table: str) -> None:
    """A server is started by an init system that sets none."""
    done = subprocess.run(
        [SYSTEM_PYTHON, str(Path(exercise.__file__)), database.url, table],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
