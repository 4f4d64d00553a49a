# SPDX-License-Identifier: GPL-2.0-or-later
"""An engine's append-only file that ends in the middle of a transaction, and what is done about it.

A script's writes stand there between MULTI and EXEC. An engine that is killed in the middle of writing them drops the
last, broken command at its next start ("short read while loading the AOF" in its log) and writes on behind the rest:
a MULTI without its EXEC (Redis 7.0 to 8.0, Valkey 8.1). Nothing of that is in its memory, so the batch is sent again.
But at the start after that one, the EXEC of the next transaction runs the rest, too: items that came twice. So before
anything is sent to an engine that was started, its file is begun anew: BGREWRITEAOF, unless that was done since.
"""

from __future__ import annotations

from kemi.errors import EngineError, NotAllowed
from kemi.relay.link import EngineBusy, Link


class NotBegunAnew(EngineBusy):
    """It is under way; nothing else is wrong with the engine."""


class FileBegunAnew:
    """Whether that was done. One for each relay: engines before 7.0 do not count it themselves."""

    def __init__(self) -> None:
        self._asked = ""  # the engine's run in which it was

    def ensure(self, link: Link) -> None:
        """Have it done, if it was not. Raises NotBegunAnew while it is not so far, NotAllowed, EngineError."""
        about = link.info()
        if about.get("aof_enabled") != "1":
            return
        run, counts = about.get("run_id", ""), "aof_rewrites" in about
        begun = about["aof_rewrites"] != "0" if counts else self._asked == run
        if not begun:
            if not _asked(link):
                return
            about = link.info()
            self._asked = run
        # From 7.0 on, what is written from its beginning on goes to another file; before, from its end on.
        waits = about.get("aof_rewrite_scheduled") == "1"
        if waits or (not counts and about.get("aof_rewrite_in_progress") == "1"):
            raise NotBegunAnew(f"{link.where}: its append-only file is begun anew first (BGREWRITEAOF)")
        if not counts and about.get("aof_last_bgrewrite_status") != "ok":
            self._asked = ""
            raise EngineBusy(f"{link.where}: BGREWRITEAOF failed; see the server's log")


def _asked(link: Link) -> bool:
    """Ask for it. False where there is no such command: who runs that engine minds its files."""
    try:
        link.call("BGREWRITEAOF")
    except NotAllowed as error:
        raise NotAllowed(
            f"{link.where}: this user may not use BGREWRITEAOF, without which a server that was killed while it wrote "
            f"may have items twice; ACL SETUSER ... +bgrewriteaof: {error}"
        ) from None
    except EngineBusy:
        raise
    except EngineError as error:
        if "unknown command" in str(error):
            return False
        if "in progress" not in str(error):
            raise EngineBusy(
                f"{error} (BGREWRITEAOF; a server that has not the memory for it needs vm.overcommit_memory=1)"
            ) from None
    return True
