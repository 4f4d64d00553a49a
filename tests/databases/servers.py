"""Real databases for a test run: private folders, free ports on loopback, an unprivileged user, ended by their pids.

The password has in it what URLs choke on, so that each test proves that it is taken as Kamailio takes it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql

from tests.server.process import SYSTEM_PATH, ServerError
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"
USER = "kamailio"
PASSWORD = "p@ss:w/rd%40'#é"  # noqa: S105 of a server that lives for one test run
DATABASE = "mq"
START_WITHIN = 60.0  # seconds
STOP_WITHIN = 30.0
WITHIN = 30  # for a connection

Rows = list[tuple[Any, ...]]


def program(name: str, path: str = SYSTEM_PATH) -> str:
    """Return the path of an installed program; a database that is missing is a failure, never a skip."""
    found = shutil.which(name, path=path)
    if found is None:
        msg = f"{name} is not installed: `sh tests/run.sh` installs what the tests need"
        raise ServerError(msg)
    return found


def halt(pid: int) -> None:
    """Stop a process, and wait until each of its threads has stopped; `kill` returns while they still run."""
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    while any(state not in "TXZ" for state in _states(pid)):
        if time.monotonic() - begin > STOP_WITHIN:
            raise ServerError(f"process {pid} does not stop")
        time.sleep(0.001)


def _states(pid: int) -> Iterator[str]:
    """Yield the state of each of its threads; one that has ended just now has none."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield stat.read_text("ascii", "replace").rpartition(")")[2].split()[0]


class SqliteFile:
    """The embedded database: a file."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def run(self, sql: str, *parameters: object) -> Rows:
        """Run one statement as anybody may who has the file."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: opening a file costs little."""
        return contextlib.nullcontext()

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


class DatabaseServer:
    """A database's server with a folder of its own. Subclasses say how it is made, begun and asked."""

    kind = ""
    unprivileged = "nobody"  # a server does not run as root

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="mqdb-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.account: dict[str, Any] = {}
        self._kept: Any = None  # a connection
        if os.getuid() == 0:
            entry = pwd.getpwnam(self.unprivileged)
            shutil.chown(self.home, entry.pw_uid, entry.pw_gid)
            self.account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        # Their temporary tables are named by the pid, which may be another one's too, in a container beside this one.
        self.environment = {**os.environ, "TMPDIR": str(self.home)}

    @property
    def url(self) -> str:
        return f"{self.kind}://{USER}:{PASSWORD}@{HOST}:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        raise NotImplementedError

    def argv(self) -> list[str]:
        raise NotImplementedError

    def connect(self, *, admin: bool = False) -> Any:
        raise NotImplementedError

    def populate(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=self.environment,
                **self.account,
            )
        begin = time.monotonic()
        while True:
            try:
                self.ping()
            except (pymysql.Error, psycopg.Error) as error:
                if self.process.poll() is not None or time.monotonic() - begin > START_WITHIN:
                    msg = f"{self.kind} does not answer: {error}\n--- log ---\n{self.log()}"
                    raise ServerError(msg) from None
                time.sleep(0.05)
            else:
                return

    def ping(self) -> None:
        self.connect(admin=True).close()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it by its pid, and wait until it has ended."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def pause(self) -> None:
        """Stop it, as a machine that hangs does. Nothing is answered from here on."""
        assert self.process is not None
        halt(self.process.pid)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def clean(self) -> None:
        self.stop()
        shutil.rmtree(self.home)

    def log(self) -> str:
        return (self.home / "log").read_text("utf-8", "replace")

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Let `run` use one connection for all statements inside, which costs much less than one for each."""
        with contextlib.closing(self.connect(admin=True)) as connection:
            self._kept = connection
            try:
                yield
            finally:
                self._kept = None

    def run(self, sql: str, *parameters: object) -> Rows:
        """Run one statement as the database's administrator, at once."""
        connection = self._kept or self.connect(admin=True)
        try:
            cursor = connection.cursor()
            cursor.execute(sql, parameters or None)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            if connection is not self._kept:
                connection.close()

    def call(self, argv: Sequence[str]) -> None:
        """Run a program of the database as its user."""
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self.home,
            env=self.environment,
            **self.account,
        )
        if done.returncode != 0:
            msg = f"{argv[0]}: {done.stdout}{done.stderr}"
            raise ServerError(msg)


class MariaDb(DatabaseServer):
    """MariaDB, as db_mysql and PyMySQL speak to it."""

    kind = "mysql"

    def __init__(self) -> None:
        super().__init__()
        self.path = str(self.home / "socket")  # the administrator's

    def prepare(self) -> None:
        self.call(
            [
                program("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={self.home}/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]
        )

    def argv(self) -> list[str]:
        return [
            program("mariadbd"),
            "--no-defaults",
            f"--datadir={self.home}/data",
            f"--socket={self.path}",
            f"--pid-file={self.home}/pid",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",  # servers are killed here, computers are not
            "--innodb-flush-method=nosync",
            "--max-allowed-packet=64M",
            "--skip-ssl",  # since 11.4 it offers TLS by itself, and the proxy of the tests could read nothing
        ]

    def connect(self, *, admin: bool = False) -> Any:
        login: dict[str, Any] = {"user": "root"}
        if not admin:
            login = {"host": HOST, "port": self.port, "user": USER, "password": PASSWORD.encode(), "database": DATABASE}
        elif self._populated():
            login["database"] = DATABASE
        connection = pymysql.connect(
            charset="utf8mb4", autocommit=admin, connect_timeout=WITHIN, defer_connect=True, **login
        )
        connection.connect(self._socket() if admin else None)
        return connection

    def _socket(self) -> socket.socket:
        """PyMySQL leaves its own one open when nobody listens: made here, and given to it."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(WITHIN)
            sock.connect(self.path)
        except OSError as error:
            sock.close()
            raise pymysql.OperationalError(0, f"{self.path}: {error}") from None
        return sock

    def start(self) -> None:
        """Start it, without the socket that a killed one left."""
        Path(self.path).unlink(missing_ok=True)
        super().start()

    def _populated(self) -> bool:
        return (self.home / "data" / DATABASE).exists()

    def populate(self) -> None:
        self.run(f"CREATE USER '{USER}'@'%%' IDENTIFIED BY %s", PASSWORD)
        self.run(f"GRANT ALL ON {DATABASE}.* TO '{USER}'@'%'")
        self.run(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"


class Postgres(DatabaseServer):
    """PostgreSQL, through psycopg or psycopg2."""

    kind = "postgres"

    @property
    def bin(self) -> str:
        """Where Debian has a version's own programs: not on PATH."""
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        return ":".join([*(str(folder) for folder in reversed(folders)), SYSTEM_PATH])

    def prepare(self) -> None:
        argv = [program("initdb", self.bin), "-D", f"{self.home}/data", "-U", "postgres", "--auth-local=trust"]
        self.call([*argv, "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])

    def argv(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self.home,
            "fsync": "off",
            "max_connections": 20,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [program("postgres", self.bin), "-D", f"{self.home}/data", *words]

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: without waiting for the clients."""
        super().stop(how)

    def connect(self, *, admin: bool = False) -> Any:
        if not admin:
            return psycopg.connect(host=HOST, port=self.port, user=USER, password=PASSWORD, dbname=DATABASE)
        name = DATABASE if (self.home / "populated").exists() else "postgres"
        return psycopg.connect(
            host=str(self.home), port=self.port, user="postgres", dbname=name, autocommit=True, connect_timeout=WITHIN
        )

    def populate(self) -> None:
        with self.connect(admin=True) as connection:
            literal = psycopg.sql.Literal(PASSWORD)
            connection.execute(psycopg.sql.SQL("CREATE USER kamailio PASSWORD {}").format(literal))
        self.run(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        (self.home / "populated").touch()
        # Tables that a test makes as the administrator belong to whom the store is.
        self.run(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {USER}")
        self.run(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO {USER}")

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


def started(server: DatabaseServer) -> DatabaseServer:
    """Make a server's data, start it, and give it a user and a database."""
    try:
        server.prepare()
        server.start()
        server.populate()
    except BaseException:
        server.clean()
        raise
    return server
