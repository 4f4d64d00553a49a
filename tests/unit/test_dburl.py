"""Kamailio's database URLs, and that no text about one ever has the password in it."""

from __future__ import annotations

import pytest

from kemi.database.url import DbUrl, parse
from kemi.errors import ConfigError

SECRET = "s3cr3t"  # noqa: S105 of nothing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mysql://u:pw@h/db", DbUrl("mysql", "mysql", "db", "h", 0, "u", "pw")),
        (
            "mysql://kamailio:kamailiorw@localhost/kamailio",
            DbUrl("mysql", "mysql", "kamailio", "localhost", 0, "kamailio", "kamailiorw"),
        ),
        ("mysql://u:pw@h:3307/db", DbUrl("mysql", "mysql", "db", "h", 3307, "u", "pw")),
        ("mariadb://u:pw@h/db", DbUrl("mysql", "mariadb", "db", "h", 0, "u", "pw")),
        ("postgres://u:pw@h/db", DbUrl("postgres", "postgres", "db", "h", 0, "u", "pw")),
        ("postgresql://u:pw@h/db", DbUrl("postgres", "postgresql", "db", "h", 0, "u", "pw")),
        ("postgres://u@/db", DbUrl("postgres", "postgres", "db", "", 0, "u")),
        ("mysql://h/db", DbUrl("mysql", "mysql", "db", "h")),
        ("mysql://h:1/db", DbUrl("mysql", "mysql", "db", "h", 1)),
        ("mysql://u:@h/db", DbUrl("mysql", "mysql", "db", "h", 0, "u")),
        ("mysql://u:pw@[::1]:5/db", DbUrl("mysql", "mysql", "db", "::1", 5, "u", "pw")),
        # As Kamailio: the last @ ends the password, the first colon begins it, nothing is decoded.
        ("mysql://u:p@s:s/w%40r?d#@h/db", DbUrl("mysql", "mysql", "db", "h", 0, "u", "p@s:s/w%40r?d#")),
        ("mysql://u@domain:pw@h/db", DbUrl("mysql", "mysql", "db", "h", 0, "u@domain", "pw")),
        ("mysql://u@domain@h/db", DbUrl("mysql", "mysql", "db", "h", 0, "u@domain")),
        ("mysql://u:12/34@h/db", DbUrl("mysql", "mysql", "db", "h", 0, "u", "12/34")),
        ("sqlite:////var/lib/mq.db", DbUrl("sqlite", "sqlite", "/var/lib/mq.db")),
        ("sqlite:////a@b:c/d e#", DbUrl("sqlite", "sqlite", "/a@b:c/d e#")),
    ],
)
def test_parts(text: str, expected: DbUrl) -> None:
    assert parse(text) == expected


def test_a_relative_file_is_found_when_the_folder_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    url = parse("sqlite:///mq.db")
    monkeypatch.chdir("/")
    assert url.database == f"{tmp_path}/mq.db"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not of the form"),
        ("mysql", "not of the form"),
        ("mysql:/u:pw@h/db", "not of the form"),
        ("text:///folder", '"text" is no database.*sqlite, mysql, mariadb, postgres, postgresql'),
        ("redis://u:s3cr3t@h/1", '"redis" is no database'),
        ("MYSQL://u:s3cr3t@h/db", '"MYSQL" is no database'),
        ("mysql+pymysql://u:s3cr3t@h/db", "is no database"),
        ("sqlite://mq.db", "write sqlite:////folder/file"),
        ("sqlite:///", "write sqlite:////folder/file"),
        ("sqlite:///:memory:", "is a file"),
        ("sqlite:////f?mode=ro", "may follow"),
        ("mysql://u:s3cr3t@h", "not of the form"),
        ("mysql://u:s3cr3t@h/", "names no database"),
        ("mysql://u:s3cr3t/db", "not of the form"),
        ("mysql://u:s3cr3t@h:70000/db", "at most 65535"),
        ("mysql://u:s3cr3t@h:9999999999999999999999/db", "at most 65535"),
        ("mysql://u:s3cr3t@h:port/db", "not of the form"),
        ("mysql://u:s3cr3t@[group]/db", "groups of my.cnf"),
        ("mysql://u:s3cr3t@[::1/db", "not of the form"),
        ("mysql://u:s3cr3t@h/db?charset=latin1", "may follow"),
        ("mysql://u:s3cr3t@h/d\0b", "NUL"),
        ("s3cr3t", "not of the form"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse(text)
    assert str(caught.value).startswith("db_url: ")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mysql://u:s3cr3t@h:3307/db", "mysql://u@h:3307/db"),
        ("postgres://u:s3cr3t@[::1]/db", "postgres://u@[::1]/db"),
        ("postgresql://h/db", "postgresql://h/db"),
        ("sqlite:////var/lib/mq.db", "sqlite:////var/lib/mq.db"),
    ],
)
def test_a_url_shows_no_password(text: str, shown: str) -> None:
    url = parse(text)
    assert str(url) == shown
    assert SECRET not in repr(url)
