"""Whose files are used, by users' names and numbers, and what is said of files that are not."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.errors import ConfigError, NoMemory, NotAllowed, SegmentError, SegmentMissing
from kemi.names import OWNER_VARIABLE
from kemi.queue.shm import trust

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

ME = os.geteuid()
MOST = (1 << 32) - 2


@pytest.fixture(autouse=True)
def _nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OWNER_VARIABLE, raising=False)


# --- users ------------------------------------------------------------------------------------------------------------


def test_root_and_this_user_are_trusted_and_whom_the_caller_names() -> None:
    assert trust.users() == {0, ME}
    assert trust.users([4711, 5]) == {0, ME, 4711, 5}


def test_nobody_is_no_user() -> None:
    """-1 stands for it, as where a library has no owner to tell."""
    assert trust.users([-1]) == {0, ME}
    assert trust.users([-1, 4711]) == {0, ME, 4711}


@pytest.mark.parametrize("given", [0, "0", 1, "1", 4711, "4711", "0042", MOST, str(MOST)])
def test_a_user_by_number(given: int | str) -> None:
    """Root's is 0."""
    assert trust.named_owner(given) == int(given)


def test_a_user_by_name() -> None:
    for user in (0, ME):
        assert trust.named_owner(pwd.getpwuid(user).pw_name) == user


@pytest.mark.parametrize("given", ["no-such-user", "4711x", "-1", "+5", " 5", "5.0", "", "\u0664\u0667", "²", "a\0b"])
def test_a_name_that_nobody_has(given: str) -> None:
    """Digits of other scripts are no number."""
    with pytest.raises(ConfigError, match="owner: there is no user"):
        trust.named_owner(given)


@pytest.mark.parametrize("given", [-1, MOST + 1, 1 << 64, True, False, 1.0, b"root", str(MOST + 1)])
def test_what_is_no_user(given: object) -> None:
    with pytest.raises(ConfigError, match=r"owner: .* is no user; write a user's name or number"):
        trust.named_owner(given)  # type: ignore[arg-type]


def test_the_variable_names_one_where_the_caller_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trust.named_owner() is None
    monkeypatch.setenv(OWNER_VARIABLE, "4712")
    assert (trust.named_owner(), trust.named_owner(4711), trust.named_owner(0)) == (4712, 4711, 0)
    monkeypatch.setenv(OWNER_VARIABLE, "no-such-user")
    with pytest.raises(ConfigError, match=rf"\${OWNER_VARIABLE}: there is no user 'no-such-user'"):
        trust.named_owner()
    monkeypatch.setenv(OWNER_VARIABLE, "")
    assert trust.named_owner() is None


@pytest.mark.parametrize("server_user", [None, 55])
def test_a_client_that_is_not_root_trusts_the_packages_user(mocker: MockerFixture, server_user: int | None) -> None:
    """Root names whom it trusts."""
    mocker.patch.object(trust, "server_user", return_value=server_user)
    mocker.patch("os.geteuid", return_value=1000)
    assert trust.client_users() == {0, 1000} | ({server_user} - {None})
    assert trust.client_users(0) == trust.client_users()
    mocker.patch("os.geteuid", return_value=0)
    assert trust.client_users() == {0}
    assert trust.client_users(77) == {0, 77}


# --- a user namespace -------------------------------------------------------------------------------------------------


def told(mocker: MockerFixture, **files: str | None) -> None:
    """Have small files of /proc say this, by their last name; None: there is none."""

    def read(path: str) -> bytes:
        text = files[path.rpartition("/")[2]]
        if text is None:
            raise FileNotFoundError(errno.ENOENT, "none", path)
        return text.encode()

    mocker.patch.object(trust, "_read", read)


def test_where_all_users_are_known_nobody_stands_for_the_others(mocker: MockerFixture) -> None:
    told(mocker, uid_map="         0          0 4294967295\n", overflowuid="65534\n")
    assert trust._nobody() == -1
    told(mocker, uid_map="0 0 1000\n1000 1000 4294966295\n", overflowuid="65534\n")
    assert trust._nobody() == -1


@pytest.mark.parametrize("known", ["0 1000 1\n", "0 1000 1\n1 100000 65536\n", "0 0 4294967294\n", ""])
def test_where_not_all_users_are_known_one_stands_for_the_others(mocker: MockerFixture, known: str) -> None:
    """Which one, the system says."""
    told(mocker, uid_map=known, overflowuid="65533\n")
    assert trust._nobody() == 65533


@pytest.mark.parametrize(
    ("known", "number"), [(None, "65534"), ("0 1000 1", None), ("0 1000", "65534"), ("0 1000 1", "x"), ("a b c", "1")]
)
def test_where_that_is_not_told_nobody_stands_for_others(
    mocker: MockerFixture, known: str | None, number: str | None
) -> None:
    """No number that a file can have: none of them is refused for it."""
    told(mocker, uid_map=known, overflowuid=number)
    assert trust._nobody() == -1


def test_a_file_of_nobody_is_refused_unless_it_is_this_process_s(tmp_path: Path, mocker: MockerFixture) -> None:
    """Also where that number is trusted, as when this process is nobody itself."""
    file = tmp_path / "f"
    file.touch(mode=0o600)
    mocker.patch.object(trust, "_nobody", return_value=ME)
    own = mocker.patch.object(trust, "_is_own", return_value=True)
    with open(file, "rb") as opened:
        trust.judge(opened.fileno(), str(file), frozenset({ME}), "")
        own.return_value = False
        with pytest.raises(NotAllowed, match=rf"{file} appears as user {ME} .*PrivateUsers=no"):
            trust.judge(opened.fileno(), str(file), frozenset({ME}), "")
        mocker.patch.object(trust, "_nobody", return_value=-1)
        trust.judge(opened.fileno(), str(file), frozenset({ME}), "")


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch()
    with open(file, "rb") as opened:
        for mode, refused in ((0o662, True), (0o602, True), (0o660, False), (0o644, False), (0o604, False)):
            os.fchmod(opened.fileno(), mode)
            if not refused:
                trust.judge(opened.fileno(), str(file), frozenset({ME}), "")
                continue
            with pytest.raises(NotAllowed, match=rf"{file} may be written by everybody \(mode {mode:04o}\)"):
                trust.judge(opened.fileno(), str(file), frozenset({ME}), "")


def test_a_strangers_file_is_refused_with_what_may_be_done(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch(mode=0o600)
    with open(file, "rb") as opened, pytest.raises(NotAllowed, match=rf"trusted: user {MOST}\); do it as {ME}"):
        trust.judge(opened.fileno(), str(file), frozenset({MOST}), "do it as {user}")


# --- what the system refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOENT, SegmentMissing, "there is no /x/f$"),
        (errno.EACCES, NotAllowed, "not allowed for user"),
        (errno.EPERM, NotAllowed, "not allowed for user"),
        (errno.ENOSPC, NoMemory, "the file system is full"),
        (errno.ENOMEM, NoMemory, "the file system is full"),
        (errno.EDQUOT, NoMemory, "the file system is full"),
        (errno.EROFS, SegmentError, "its file system is mounted read-only; mount it so that it can be written$"),
        (errno.EIO, SegmentError, f"cannot be used as shared memory: {os.strerror(errno.EIO)}$"),
        (errno.EINVAL, SegmentError, f"cannot be used as shared memory: {os.strerror(errno.EINVAL)}$"),
        (errno.ENFILE, SegmentError, "fs.file-max"),
        (errno.EMFILE, SegmentError, "LimitNOFILE="),
        (errno.ELOOP, SegmentError, "it is none .*; find out who put it there$"),
        (errno.ENXIO, SegmentError, "it is none .*; find out who put it there$"),
    ],
)
def test_an_error_of_the_system_says_what_to_do(number: int, kind: type[Exception], text: str) -> None:
    error = trust.refusal("/x/f", OSError(number, os.strerror(number)))
    assert type(error) is kind
    with pytest.raises(kind, match=text):
        raise error


def test_a_thing_that_is_no_file_is_named(tmp_path: Path) -> None:
    """By what lies there, the link and not what it leads to."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        error = trust.refusal(str(tmp_path / name), OSError(errno.ELOOP, "text"))
        assert str(error).endswith(f"it is a {name} (text); find out who put it there")
