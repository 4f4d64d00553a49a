"""PostgreSQL behind pgbouncer, which gives each transaction another session of the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.databases import exercise
from tests.databases.servers import DATABASE, HOST, PASSWORD, USER, Postgres, program, started
from tests.databases.test_by_hand import Left, left, there_and_back
from tests.server.process import wait_until
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

__all__ = ["left"]


class Pooled(Postgres):
    """A PostgreSQL whose users come through pgbouncer. Two transactions rarely meet in one session."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.pooler: subprocess.Popen[bytes] | None = None
        self.pooled = 0  # the port
        self._paused: list[int] = []

    @property
    def url(self) -> str:
        return f"{self.kind}://{USER}:{PASSWORD}@{HOST}:{self.pooled}/{DATABASE}"

    def populate(self) -> None:
        super().populate()
        self.pooled = free_port()
        folder = self.home / "pooler"
        folder.mkdir()
        (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n', "utf-8")
        lines = [
            "[databases]",
            f"* = host={HOST} port={self.port}",
            "[pgbouncer]",
            f"listen_addr = {HOST}",
            f"listen_port = {self.pooled}",
            "unix_socket_dir =",
            "auth_type = plain",
            f"auth_file = {folder}/users",
            f"pool_mode = {self.mode}",
            "server_round_robin = 1",
            "min_pool_size = 4",
            "server_login_retry = 1",
        ]
        (folder / "ini").write_text("\n".join(lines) + "\n", "utf-8")
        if self.account:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, self.account["user"], self.account["group"])
        with (folder / "log").open("wb") as log:
            argv = [program("pgbouncer"), str(folder / "ini")]
            self.pooler = subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder, **self.account)
        wait_until(self.answers, "pgbouncer answers")

    def answers(self) -> bool:
        try:
            psycopg.connect(host=HOST, port=self.pooled, user=USER, password=PASSWORD, dbname=DATABASE).close()
        except psycopg.OperationalError:
            return False
        return True

    def pause(self) -> None:
        """Also the sessions that the pooler has open."""
        assert self.process is not None
        super().pause()
        self._paused = self._sessions()
        for pid in self._paused:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._paused:
            os.kill(pid, signal.SIGCONT)
        super().resume()

    def _sessions(self) -> list[int]:
        assert self.process is not None
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]

    def clean(self) -> None:
        if self.pooler is not None:
            self.pooler.kill()
            self.pooler.wait()
        super().clean()


@pytest.fixture(scope="module", params=["transaction", "session"])
def pooled(request: pytest.FixtureRequest) -> Iterator[Pooled]:
    server = Pooled(request.param)
    started(server)
    yield server
    server.clean()


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_store_goes_on_in_any_session(pooled: Pooled, table: str, driver: str, mocker: MockerFixture) -> None:
    """Nothing is left in one that another one needs, such as a prepared statement: a driver makes one at the fifth."""
    if driver == "psycopg":
        mocker.patch.dict(sys.modules, {"psycopg2": None})
    for _ in range(2):
        assert exercise.exercise(pooled.url, table) == driver


def test_a_server_that_hangs_behind_it(pooled: Pooled, left: Left) -> None:
    """The time limit holds, though the pooler answers; nothing is lost."""
    there_and_back(left, pooled)
    pooled.pause()
    try:
        assert "not done within --db-timeout, 2 s" in left("save", pooled.url, "--db-timeout=2").failed(6)
    finally:
        pooled.resume()
    there_and_back(left, pooled)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_server_that_starts_anew_behind_it(pooled: Pooled, left: Left, how: signal.Signals) -> None:
    there_and_back(left, pooled)
    pooled.stop(how)
    assert left("save", pooled.url, "--db-timeout=3").code == 6
    pooled.start()
    there_and_back(left, pooled, "--db-retry=20")
