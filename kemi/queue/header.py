"""The part of a header that every segment has: what it is, who owns it, its lock."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from kemi.errors import SegmentError
from kemi.owner import Owner
from kemi.queue import layout, mutex
from kemi.queue.segment import Segment, path_of


def write(segment: Segment, magic: bytes, owner: Owner) -> None:
    """Fill the common part of a zeroed header."""
    segment.bytes[: layout.PREFIX.size] = layout.PREFIX.pack(magic, layout.VERSION, 0, layout.abi())
    segment.words[layout.W_CREATED] = time.time_ns()
    segment.words[layout.W_WINDOW] = segment.window
    set_owner(segment, owner)
    mutex.initialise(segment, 0)


def write_queue(segment: Segment, owner: Owner, addmode: int, line: int) -> None:
    """Fill the header of a new queue, all but its ring."""
    write(segment, layout.MAGIC, owner)
    words = segment.words
    words[layout.W_ADDMODE] = addmode
    words[layout.W_SLOT] = line
    words[layout.W_DATA] = layout.data_offset(segment.window, addmode != 0)
    if addmode:
        words[layout.W_BUCKETS_AT] = directory_offset(segment.window)
        words[layout.W_SEED], words[layout.W_SEED + 1] = secrets.randbits(64), secrets.randbits(64)


def owner_of(segment: Segment) -> Owner:
    """Who owns the segment."""
    return Owner(*segment.words[layout.W_OWNER : layout.W_OWNER + 3])


def set_owner(segment: Segment, owner: Owner) -> None:
    """Make another process the owner."""
    for number, value in enumerate(owner):
        segment.words[layout.W_OWNER + number] = value


def checker(magic: bytes, what: str) -> Callable[[bytes, int, str], int]:
    """A check for `Segment.attach`: is it a segment of this kind, whole, and made by processes like this one?

    It sees what was read from the file. Nothing is mapped or touched before it is content.
    """

    def window_of(first: bytes, size: int, name: str) -> int:
        def refuse(why: str) -> SegmentError:
            return SegmentError(f"{path_of(name)} is no {what} of this version: {why}; it is left as it is")

        if len(first) < layout.PAGE:
            raise refuse(f"it has {size} bytes, at least {layout.PAGE} are needed (truncated?)")
        found, version, _, abi = layout.PREFIX.unpack_from(first)
        if found != magic:
            raise refuse(f"it begins with {found!r}, not {magic!r} (made by another program?)")
        if version != layout.VERSION:
            raise refuse(f"it has format {version}, this is format {layout.VERSION}")
        made_by = abi.rstrip(b"\0")
        if made_by != layout.abi():
            raise refuse(f"it was made on {made_by.decode('ascii', 'replace')}, this is {layout.abi().decode()}")
        words = memoryview(first)[: layout.HEADER_WORDS * 8].cast("Q")
        if words[layout.W_MUTEX] >= layout.MUTEX_COUNT:
            raise refuse(f"it uses lock {words[layout.W_MUTEX]} of {layout.MUTEX_COUNT}")
        return _check_extent(words, magic, size, refuse)

    return window_of


def _check_extent(words: memoryview, magic: bytes, size: int, refuse: Callable[[str], SegmentError]) -> int:
    """Do the offsets of a header agree with one another and with the file's length?"""
    window: int = words[layout.W_WINDOW]
    if magic == layout.INSTANCE_MAGIC:
        if not window == layout.INSTANCE_BYTES <= size:
            raise refuse(f"it has {size} of {layout.INSTANCE_BYTES} bytes (truncated?)")
        return window
    keyed = words[layout.W_ADDMODE] != 0
    if words[layout.W_ADDMODE] not in (0, 1, 2) or window % layout.CHUNK or not layout.CHUNK <= window < 1 << 46:
        raise refuse(f"its addmode is {words[layout.W_ADDMODE]}, its window {window}")
    data = layout.data_offset(window, keyed)
    if words[layout.W_DATA] != data or words[layout.W_BUCKETS_AT] != (directory_offset(window) if keyed else 0):
        raise refuse(f"its chunks begin at {words[layout.W_DATA]}, not at {data}")
    for name, word in (("head", layout.W_HEAD), ("tail", layout.W_TAIL)):
        if not data <= words[word] < size:
            raise refuse(f"its {name} is at {words[word]}, its chunks from {data} to {size} (truncated?)")
    if words[layout.W_SLOT] >= layout.TABLE_ENTRIES:
        raise refuse(f"it has line {words[layout.W_SLOT]} of {layout.TABLE_ENTRIES} in its instance's table")
    return window


def directory_offset(window: int) -> int:
    """Offset of the bucket directory of a keyed queue."""
    return layout.PAGE + layout.map_bytes(window)
