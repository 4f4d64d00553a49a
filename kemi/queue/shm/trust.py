# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose files are used as shared memory.

Anybody may put anything under any name in /dev/shm, and who may write to a segment is trusted like the server itself:
the lock in it holds pointers that are followed, and a file that becomes shorter kills who has it mapped. So:

1. Open without following a link and without waiting for a pipe's other end; nothing is made by opening.
2. Judge that descriptor, not the name: what the name leads to may change at any moment.
3. Map that descriptor, and only when it is a regular file, not writable by others, and its user is trusted.

Trusted are root, the user of this process, and whom the caller names; who is not root trusts the user `kamailio` too,
as which the packages' servers run. The queues of an instance must belong to the instance's user.

In a user namespace files of all users that it does not know appear as one user's ("nobody"), strangers' among them.
Nobody trusts that number there, but who has it himself, for files that the kernel says are his.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import resource
import stat
from collections.abc import Iterable

from kemi.errors import ConfigError, MqueueError, NoMemory, NotAllowed, SegmentError, SegmentMissing
from kemi.names import OWNER_VARIABLE
from kemi.queue.sync.openfile import OpenFile

Users = frozenset[int]

SERVER_USER = "kamailio"
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
CREATE = WRITE | os.O_CREAT | os.O_EXCL

_MOST = (1 << 32) - 2  # the last number that a user can have


# --- users ------------------------------------------------------------------------------------------------------------


def users(others: Iterable[int] = ()) -> Users:
    """Root, the user of this process, and others (-1 is nobody)."""
    return frozenset({0, os.geteuid(), *others}) - {-1}


def client_users(owner: str | int | None = None) -> Users:
    """Whom a process outside of the server trusts. Raises ConfigError when there is no such user.

    owner: one more user; None: the one that MQUEUE_KEMI_OWNER names.
    """
    named = named_owner(owner)
    usual = server_user() if os.geteuid() else None
    return users(user for user in (named, usual) if user is not None)


def named_owner(owner: str | int | None = None) -> int | None:
    """Return the user that was named; None where none was. Raises ConfigError."""
    if owner is not None:
        return _user(owner, "owner")
    name = os.environ.get(OWNER_VARIABLE)
    return _user(name, f"${OWNER_VARIABLE}") if name else None


def server_user() -> int | None:
    """Return the user as which the packages' servers run; None where there is none of that name."""
    try:
        return pwd.getpwnam(SERVER_USER).pw_uid
    except KeyError:
        return None


def _user(given: object, where: str) -> int:
    if isinstance(given, str) and not (given.isascii() and given.isdigit()):
        try:
            return pwd.getpwnam(given).pw_uid
        except (KeyError, ValueError):  # ValueError: no name could be like that
            raise ConfigError(f"{where}: there is no user {given!r} on this host") from None
    if isinstance(given, bool) or not isinstance(given, (str, int)) or not 0 <= int(given) <= _MOST:
        raise ConfigError(f"{where}: {given!r} is no user; write a user's name or number")
    return int(given)


def shown(user: int) -> str:
    """Return a user for an error: number and name."""
    try:
        return f"user {user} ({pwd.getpwuid(user).pw_name})"
    except (KeyError, OverflowError):
        return f"user {user}"


# --- files ------------------------------------------------------------------------------------------------------------


def open_file(path: str, flags: int) -> OpenFile:
    """Open a file, whoever made it. Raises SegmentMissing, NotAllowed, SegmentError."""
    try:
        return OpenFile.open(path, flags)
    except OSError as error:
        raise refusal(path, error) from None


def open_trusted(path: str, trusted: Users, advice: str) -> OpenFile:
    """Open a file that may be mapped. Raises SegmentMissing, NotAllowed, SegmentError.

    advice: what to do when its user is not trusted; {user} in it becomes that user.
    """
    file = open_file(path, WRITE)
    try:
        judge(file.number, path, trusted, advice)
    except BaseException:
        file.close()
        raise
    return file


def judge(fd: int, path: str, trusted: Users, advice: str) -> None:
    """Refuse to map an open file that anybody else could have made. Raises NotAllowed, SegmentError."""
    status = os.fstat(fd)
    check_kind(status, path)
    if status.st_uid == _nobody() and not _is_own(fd):
        raise NotAllowed(
            f"{path} appears as {shown(status.st_uid)}, as files of all users do that are not known in this user "
            "namespace, so it cannot be seen whose it is; use it outside of that namespace (PrivateUsers=no in a "
            "systemd unit), or in one that knows its server's user (a container's uidmap)"
        )
    if status.st_uid not in trusted:
        name = shown(status.st_uid)
        raise NotAllowed(
            f"{path} belongs to {name}, who is not trusted here (trusted: {', '.join(map(shown, sorted(trusted)))}); "
            f"{advice.format(user=status.st_uid)}"
        )
    if status.st_mode & stat.S_IWOTH:
        raise NotAllowed(
            f"{path} may be written by everybody (mode {stat.S_IMODE(status.st_mode):04o}), so it is not used; start "
            'its server again with modparam("mqueue", "mode", "0660") and a "group"'
        )


def _nobody() -> int:
    """Return as whose the files of users appear that this user namespace does not know; -1 where it knows all."""
    try:
        known = sum(int(line.split()[2]) for line in _read("/proc/self/uid_map").splitlines())
        return -1 if known > _MOST else int(_read("/proc/sys/fs/overflowuid"))
    except (OSError, ValueError, IndexError):  # no /proc, or no user namespaces
        return -1


def _read(path: str) -> bytes:
    """Return what a small file has in it. Should a signal handler raise here, the file is closed all the same."""
    file = OpenFile.open(path, os.O_RDONLY | os.O_CLOEXEC)
    text = os.read(file.number, 4096)
    file.close()
    return text


def _is_own(fd: int) -> bool:
    """Return True if the kernel takes an open file for one of this process's user, or of one whom it may act for."""
    with contextlib.suppress(OSError):
        OpenFile.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NOATIME | os.O_CLOEXEC).close()
        return True
    return False


def check_kind(status: os.stat_result, path: str) -> None:
    """Raise SegmentError for what is no regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise SegmentError(
            f"{path} is a {_kind(status.st_mode)} of {shown(status.st_uid)}, no shared memory; find out who put it "
            "there"
        )


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISLNK, "link"), (stat.S_ISSOCK, "socket"))
    return next((name for test, name in kinds if test(mode)), "device")


CLIENT_ADVICE = (
    "if that user runs the server, allow it: attach(..., owner={user}), mqueue-kemi --owner {user}, "
    f"or {OWNER_VARIABLE}={{user}}"
)
SERVER_ADVICE = "it is left as it is; if that user's server left it, start with -u {user}"
OWNER_ADVICE = "it is left as it is; go on as that user, or as root with mqueue-kemi --owner {user}"
INSTANCE_ADVICE = "the queues of an instance belong to the instance's user; it is left as it is"
SAME_ADVICE = (
    "the queue in use until now belonged to another user; if the server was really given to this one, "
    "attach anew with owner={user}"
)


# --- what the system refuses ------------------------------------------------------------------------------------------


def refusal(path: str, error: OSError) -> MqueueError:
    """Return what to raise for an error of the system: the file, the reason, and what to do."""
    number = error.errno
    if number == errno.ENOENT:
        return SegmentMissing(f"there is no {path}")
    if number in (errno.EACCES, errno.EPERM):
        return not_allowed(path)
    if number in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
        return NoMemory(f"{path}: no memory left: the file system is full; make room in it, or make it larger")
    return SegmentError(f"{path}: cannot be used as shared memory: {_reason(path, error)}")


def _reason(path: str, error: OSError) -> str:
    number = error.errno
    if number in (errno.EMFILE, errno.ENFILE):
        return too_many(number)
    if number in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.ENODEV):
        status = _lstat(path)
        kind = "none" if status is None else f"a {_kind(status.st_mode)}"
        return f"it is {kind} ({error.strerror}); find out who put it there"
    if number == errno.EROFS:
        return "its file system is mounted read-only; mount it so that it can be written"
    return error.strerror or str(error)


def too_many(number: int | None) -> str:
    """Return the sentence for a process, or a system, that has no descriptor left."""
    if number == errno.ENFILE:
        return "all descriptors of this system are in use; raise the sysctl fs.file-max"
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"all {limit} descriptors that this process may have are in use (at most {most}); raise them: LimitNOFILE= in "
        "its systemd unit, ulimit -n in its shell, open_files_limit in kamailio.cfg"
    )


def not_allowed(path: str) -> NotAllowed:
    """Return the error of a file that this user may not open."""
    status = _lstat(path)
    whose = (
        "it cannot be looked at"
        if status is None
        else f"it is of {shown(status.st_uid)}, {_shown_group(status.st_gid)}, mode {status.st_mode & 0o777:04o}"
    )
    return NotAllowed(
        f"{path}: not allowed for {shown(os.geteuid())}, {whose}; go on as its user or as root, "
        'or let its server allow a group with modparam("mqueue", "mode"/"group", ...)'
    )


def _shown_group(group: int) -> str:
    try:
        return f"group {group} ({grp.getgrgid(group).gr_name})"
    except (KeyError, OverflowError):
        return f"group {group}"


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
