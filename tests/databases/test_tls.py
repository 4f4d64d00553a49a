"""Encrypted connections: servers that demand them, certificates that are known or not, and messages that help."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ConfigError, StoreError
from kemi.store import Options, Store, Wanted
from tests.databases.secure import certificate
from tests.databases.servers import DATABASE, HOST, PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases.secure import SecureServer
    from tests.databases.servers import MariaDb, Postgres


@contextlib.contextmanager
def opened(url: str, tls: str) -> Iterator[Store]:
    store = Store.open(url, None, Options(20.0, tls))
    yield store
    store.close()


def failure(url: str, tls: str) -> str:
    with opened(url, tls) as store, pytest.raises(StoreError) as caught, store.begin("q"):
        pass
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def test_on(secure: SecureServer, table: str) -> None:
    with opened(secure.url, "on") as store:
        assert store.prepare([Wanted(table)]) == []
        with store.begin(table) as rows:
            rows.insert([(b"k", b"v")] * 2500)
            assert is_encrypted(rows)


def is_encrypted(rows: Any) -> bool:
    if rows.table.place.url.kind == "mysql":
        found = rows._connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").one()[1]
    else:
        found = rows._connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar()
    return bool(found)


def test_off_where_it_is_demanded(secure: SecureServer) -> None:
    """MariaDB says no more than that access is denied; the advice does."""
    text = failure(secure.url, "off")
    assert "demands TLS" in text
    assert "db_tls" in text


def test_an_authority(secure: SecureServer, table: str) -> None:
    with opened(secure.url, f"{secure.home}/cert.pem") as store, store.begin(table) as rows:
        assert is_encrypted(rows)


def test_an_authority_that_is_not_known(secure: SecureServer) -> None:
    assert "name the file with the certificate of the authority" in failure(secure.url, "verify")


def test_another_authority(secure: SecureServer, tmp_path: Path) -> None:
    certificate(tmp_path)
    assert "name the file with the certificate of the authority" in failure(secure.url, f"{tmp_path}/cert.pem")


@contextlib.contextmanager
def another_certificate(secure: SecureServer, **how: Any) -> Iterator[None]:
    """Have the server use another one for a time."""
    reload = "FLUSH SSL" if secure.kind == "mysql" else "SELECT pg_reload_conf()"
    files = [secure.home / name for name in ("cert.pem", "key.pem")]
    before = [file.read_bytes() for file in files]
    try:
        certificate(secure.home, **how)
        secure.run(reload)
        yield
    finally:
        for file, content in zip(files, before):
            file.write_bytes(content)
        secure.run(reload)


def refused(secure: SecureServer, says: str) -> None:
    """Wait until the server uses the certificate that it was told to use."""
    authority = f"{secure.home}/cert.pem"
    begin = time.monotonic()
    while True:
        with contextlib.suppress(pytest.fail.Exception):
            if says in failure(secure.url, authority) or time.monotonic() - begin > 30:
                break
    assert says in failure(secure.url, authority)


def test_a_certificate_that_has_expired(secure: SecureServer) -> None:
    with another_certificate(secure, expired=True):
        refused(secure, "expired")
        with opened(secure.url, "on") as store, store.begin("q") as rows:
            assert is_encrypted(rows)


def test_a_certificate_for_another_host(secure: SecureServer) -> None:
    with another_certificate(secure, name="DNS:db.example.org"):
        refused(secure, "write the host in db_url as the certificate has it")


@pytest.mark.parametrize("scheme", ["mysql", "postgres"])
def test_a_file_that_is_not_there(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"db_tls: .*none\.pem"):
        Store.open(f"{scheme}://u:p@h/db", None, Options(1.0, f"{tmp_path}/none.pem"))


def test_an_account_that_demands_it(mariadb: MariaDb) -> None:
    """There is nothing in the server's answer but that access is denied."""
    mariadb.run("CREATE USER IF NOT EXISTS tls@'%%' IDENTIFIED BY %s REQUIRE SSL", "secret")
    mariadb.run(f"GRANT ALL ON {DATABASE}.* TO tls@'%'")
    url = f"mysql://tls:secret@{HOST}:{mariadb.port}/{DATABASE}"
    assert "if the account demands TLS, set db_tls" in failure(url, "off")


def test_a_server_without_it(postgres: Postgres) -> None:
    assert "set up TLS at the database's server, or set db_tls to off" in failure(postgres.url, "on")


def test_a_socket(mariadb: MariaDb, postgres: Postgres, table: str) -> None:
    mysql = f"mysql://root@unix({mariadb.path})/{DATABASE}"  # root comes in through the socket only
    assert mariadb.path in str(Store.open(mysql).url)
    folder = f"postgres://postgres@unix({postgres.home}):{postgres.port}/{DATABASE}"  # the port is in the socket's name
    for url in (mysql, folder):
        with opened(url, "") as store, store.begin(table) as rows:
            rows.insert([(b"k", b"v")])
            assert [row.key for row in rows.read()] == [b"k"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyMySQL forgets its socket
def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    for scheme in ("mysql", "postgres"):
        text = failure(f"{scheme}://{USER}:{PASSWORD}@unix({tmp_path}/none)/{DATABASE}", "")
        assert text.endswith("the database must run and be reachable from this host"), text
