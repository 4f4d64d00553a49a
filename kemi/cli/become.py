# SPDX-License-Identifier: GPL-2.0-or-later
"""Root's commands go on as the user whom an instance belongs to, before they map anything of it.

What that user can write into a segment may then do to the command what it may do to that user's own programs, and no
more. Only a trusted user is become (see `kemi.queue.shm.trust`); attaching refuses what belongs to any other.
"""

from __future__ import annotations

import os
import pwd
from importlib import import_module

from kemi import host
from kemi.errors import NotAllowed, UnknownQueue
from kemi.queue.shm import trust

# What the owner needs later, while Python or this package may lie where only root can read.
_NEEDED_LATER = ("encodings.ascii", "kemi.instance")


def owner_of(instance: str, named: str | None, *, anybody: bool = False) -> None:
    """Become the instance's user, for good. Nothing happens for who is not root, and where that user is not trusted.

    named: one more trusted user. anybody: root clears up after whoever it was.
    Raises ConfigError when there is no user of that name, NotAllowed.
    """
    others = {trust.named_owner(named), trust.server_user()} - {None}
    if os.geteuid():
        return
    try:
        user = host.find(instance).user()
    except UnknownQueue:
        return
    if user and (anybody or user in others):
        _become(user)


def _become(user: int) -> None:
    for module in _NEEDED_LATER:
        import_module(module)
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        name, group = None, user
    else:
        name, group = entry.pw_name, entry.pw_gid
    try:
        if name is None:
            os.setgroups([group])
        else:
            os.initgroups(name, group)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    except OSError as error:
        raise NotAllowed(
            f"root may not become {trust.shown(user)} here ({error.strerror}), whom the instance belongs to; run the "
            "command as that user"
        ) from None
