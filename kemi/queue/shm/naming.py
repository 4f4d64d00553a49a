# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in /dev/shm: of instances, queues, and of what is being made; each tells what it is for.

Nothing heavy is imported: who only looks needs no more.
"""

from __future__ import annotations

import os
import re

from kemi.errors import ConfigError
from kemi.owner import Owner, this_process

SHM_DIR = "/dev/shm"  # noqa: S108 - that is where Linux keeps shared memory
PREFIX = "mqk."
NAME_MAX = 255
ANSWERS = "~answers"
_EXCERPT = 300  # characters of a name that is too long, in what is said of it
KEPT = "~kept."  # in the name of a queue that was kept at a stop while another file had its own name
MAKER = 60  # characters at most that tell who makes a draft
_DRAFT = re.compile(r"~(\d{1,20})\.(\d{1,20})\.(\d{1,20})\.[0-9a-f]{8}")
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"  # in a name as they are
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


def segment_name(instance: str, queue: str | None = None) -> str:
    """Name in /dev/shm of a queue, or of the instance itself; percent-encoded, so that no name leaves the folder."""
    parts = [instance] if queue is None else [instance, queue]
    encoded = [_encode(part) for part in parts]
    name = PREFIX + ".".join(encoded)
    if len(name) > NAME_MAX:
        shown = repr(parts[-1][:_EXCERPT]) + ("..." if len(parts[-1]) > _EXCERPT else "")
        raise ConfigError(
            f"name {shown} is too long: its file in {SHM_DIR} would have {len(name)} characters, "
            f"at most {NAME_MAX} are possible; take a shorter name"
        )
    return name


def sibling_name(name: str, queue: str) -> str:
    """Name in /dev/shm of another queue of the same instance."""
    return f"{name.rpartition('.')[0]}.{_encode(queue)}"


def answers_name(name: str, shard: int) -> str:
    """Name in /dev/shm of an answers queue of the same instance.

    No queue that a user defines can have it; and it is taken away where drafts are, which a dead server left.
    """
    return f"{name.rpartition('.')[0]}.{ANSWERS}{shard}"


def queue_name(name: str) -> str:
    """Return the queue whose segment has this name in /dev/shm."""
    return decoded(name.rpartition(".")[2])


def _encode(part: str) -> str:
    # As urllib.parse has it, whose import takes longer than a look at all queues. Dots divide the parts of a name, and
    # a tilde marks a segment that is being made.
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in part.encode("utf-8", "surrogatepass"))


def decoded(part: str) -> str:
    """Return the part of a name that `segment_name` has encoded. Raises ValueError where that is no text."""
    data = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), part.encode("utf-8", "surrogatepass"))
    return data.decode("utf-8", "surrogatepass")


def draft_name(name: str) -> str:
    """Return the name of a segment that is being made: nobody else's, and it tells which process makes it."""
    pid, start, namespace = this_process()
    return f"{name[: NAME_MAX - MAKER].rstrip('%')}~{pid}.{start}.{namespace}.{os.urandom(4).hex()}"


def is_left_draft(path: str) -> bool:
    """Return True for the name of a draft whose maker is gone, or is not told, as in an older version's."""
    found = _DRAFT.findall(path)
    return Owner(*map(int, found[-1])).is_dead() if found else "~" in path


def path_of(name: str) -> str:
    """Return the file that holds a segment."""
    return os.path.join(SHM_DIR, name)
