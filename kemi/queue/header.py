"""The part of a header that every segment has: what it is, who owns it, its lock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from kemi.errors import SegmentError
from kemi.owner import Owner
from kemi.queue import keyhash, layout, pthread
from kemi.queue.segment import Segment, path_of

Check = Callable[[int, str], int]  # descriptor and name → bytes to map

_LOOKS = 3  # at a header that does not change
_PATIENCE = 1.0  # seconds for one that does
_BLOCK = 512  # bytes of a block in what stat says
_PIECE = 1 << 16  # bytes of a chunk map that are read at once


def write(segment: Segment, magic: bytes, owner: Owner) -> None:
    """Fill the common part of a zeroed header."""
    segment.bytes[: layout.PREFIX.size] = layout.PREFIX.pack(magic, layout.VERSION, 0, layout.abi())
    segment.words[layout.W_CREATED] = time.time_ns()
    segment.words[layout.W_WINDOW] = segment.window
    set_owner(segment, owner)
    pthread.initialise(segment, 0)


def write_queue(segment: Segment, owner: Owner, addmode: int) -> None:
    """Fill the header of a new queue, all but its ring."""
    write(segment, layout.MAGIC, owner)
    words = segment.words
    words[layout.W_ADDMODE] = addmode
    words[layout.W_DATA] = layout.data_offset(segment.window, addmode != 0)
    words[layout.W_ASIDE_AT] = layout.aside_offset(segment.window, addmode != 0)
    if addmode:
        words[layout.W_BUCKETS_AT] = directory_offset(segment.window)
        words[layout.W_SECRET], words[layout.W_HASH] = keyhash.new_secret(), keyhash.FORM


def owner_of(segment: Segment) -> Owner:
    """Who owns the segment."""
    return Owner(*segment.words[layout.W_OWNER : layout.W_OWNER + 3])


def set_owner(segment: Segment, owner: Owner) -> None:
    """Make another process the owner."""
    for number, value in enumerate(owner):
        segment.words[layout.W_OWNER + number] = value


def checker(magic: bytes, what: str) -> Check:
    """Return a check for `Segment.attach`: is it a segment of this kind, whole, and made by processes like this one?

    It reads from the file. Nothing is mapped or touched before it is content.
    """

    def window_of(fd: int, name: str) -> int:
        deadline = time.monotonic() + _PATIENCE
        seen, looks = b"", 0
        while True:
            first = os.pread(fd, layout.PAGE, 0)
            try:
                return _window(fd, first, magic)
            except _Wrong as why:
                # It is read in several steps. Between them a queue in use may move on, grow and shrink, so only what
                # is wrong with one that stands still is wrong.
                looks = looks + 1 if first == seen else 1
                seen = first
                if looks == _LOOKS or time.monotonic() > deadline:
                    raise SegmentError(
                        f"{path_of(name)} is no {what} of this version: {why}; it is left as it is"
                    ) from None
            time.sleep(0.001)

    return window_of


def _window(fd: int, first: bytes, magic: bytes) -> int:
    """Bytes to map of a segment of which the first page was read. Raises _Wrong."""
    words = _common_part(first, magic)
    if magic == layout.INSTANCE_MAGIC:
        _check_instance(words, os.fstat(fd).st_size)
    else:
        _check_queue(words)
        _check_chunks(fd, words)
    return int(words[layout.W_WINDOW])


class _Wrong(Exception):
    """What is wrong with a header."""


def _common_part(first: bytes, magic: bytes) -> memoryview:
    """The words of a header, of which the first page was read."""
    if len(first) < layout.PAGE:
        raise _Wrong(f"it has {len(first)} bytes, at least {layout.PAGE} are needed (truncated?)")
    found, version, _, abi = layout.PREFIX.unpack_from(first)
    if found != magic:
        raise _Wrong(f"it begins with {found!r}, not {magic!r} (made by another program?)")
    if version != layout.VERSION:
        raise _Wrong(f"it has format {version}, this is format {layout.VERSION}")
    made_by = abi.rstrip(b"\0")
    if made_by != layout.abi():
        raise _Wrong(f"it was made on {made_by.decode('ascii', 'replace')}, this is {layout.abi().decode()}")
    words = memoryview(first)[: layout.HEADER_WORDS * 8].cast("Q")
    number = words[layout.W_MUTEX]
    if number >= layout.MUTEX_COUNT:
        raise _Wrong(f"it uses lock {number} of {layout.MUTEX_COUNT}")
    at = layout.MUTEX_AT + number * layout.MUTEX_STRIDE
    if not pthread.is_one(first[at : at + layout.MUTEX_STRIDE]):
        raise _Wrong("its lock is none")
    return words


def _check_instance(words: memoryview, size: int) -> None:
    if not words[layout.W_WINDOW] == layout.INSTANCE_BYTES <= size:
        raise _Wrong(f"it has {size} of {layout.INSTANCE_BYTES} bytes (truncated?)")


def _check_queue(words: memoryview) -> None:
    """Do the offsets of a queue's header agree with one another?"""
    window: int = words[layout.W_WINDOW]
    keyed = words[layout.W_ADDMODE] != 0
    if words[layout.W_ADDMODE] not in (0, 1, 2) or window % layout.CHUNK or not layout.CHUNK <= window < 1 << 46:
        raise _Wrong(f"its addmode is {words[layout.W_ADDMODE]}, its window {window}")
    data = layout.data_offset(window, keyed)
    if words[layout.W_DATA] != data or words[layout.W_BUCKETS_AT] != (directory_offset(window) if keyed else 0):
        raise _Wrong(f"its chunks begin at {words[layout.W_DATA]}, not at {data}")
    if words[layout.W_ASIDE_AT] != layout.aside_offset(window, keyed):
        raise _Wrong(f"what is set aside is looked for at {words[layout.W_ASIDE_AT]}")
    if keyed and (words[layout.W_HASH] not in keyhash.FORMS or words[layout.W_SECRET] > keyhash.MOST_SECRET):
        raise _Wrong(f"its keys are hashed in form {words[layout.W_HASH]}")
    if words[layout.W_SLOT] >= layout.TABLE_ENTRIES:
        raise _Wrong(f"it has line {words[layout.W_SLOT]} of {layout.TABLE_ENTRIES} in its instance's table")


def _check_chunks(fd: int, words: memoryview) -> None:
    """Are all chunks there that the map has, and the cursors in chunks that are in use?"""
    data, window = words[layout.W_DATA], words[layout.W_WINDOW]
    status = os.fstat(fd)
    if status.st_blocks * _BLOCK < layout.map_bytes(window):
        # Its maker reserved memory for the whole map. So a window that nobody has paid for costs its reader nothing.
        raise _Wrong(f"its window is {window}, but it holds {status.st_blocks * _BLOCK} bytes of memory")
    last = _last_chunk(fd, (window - data) // layout.CHUNK)
    end = data + (last + 1) * layout.CHUNK
    if end > status.st_size:
        raise _Wrong(f"its last chunk ends at {end}, the file at {status.st_size} (truncated?)")
    for name, word in (("head", layout.W_HEAD), ("tail", layout.W_TAIL)):
        number = (words[word] - data) // layout.CHUNK
        if not 0 <= number <= last or _state(fd, number) != layout.CHUNK_USED or words[word] % 8:
            raise _Wrong(f"its {name} is at {words[word]}, which is in no chunk in use (from {data} to {end})")


def _last_chunk(fd: int, count: int) -> int:
    """Number of the last chunk with memory behind it, by the chunk map; -1 when there is none."""
    for at in range(-(-count // _PIECE) * _PIECE - _PIECE, -1, -_PIECE):
        piece = os.pread(fd, min(_PIECE, count - at), layout.PAGE + at)
        last = max(piece.rfind(bytes([state])) for state in (layout.CHUNK_FREE, layout.CHUNK_USED))
        if last >= 0:
            return at + last
    return -1


def _state(fd: int, number: int) -> int:
    """The state of a chunk, by the chunk map."""
    state = os.pread(fd, 1, layout.PAGE + number)
    return state[0] if state else layout.CHUNK_ABSENT


def directory_offset(window: int) -> int:
    """Offset of the bucket directory of a keyed queue."""
    return layout.PAGE + layout.map_bytes(window)


def dead_letter_of(segment: Segment) -> str:
    """Name of the queue for what was delivered too often; "" if there is none."""
    at = layout.DEAD_LETTER_AT
    length = min(segment.words[at >> 3], layout.DEAD_LETTER_MOST)
    return bytes(segment.bytes[at + 8 : at + 8 + length]).decode("utf-8", "surrogatepass")


def set_dead_letter(segment: Segment, name: str) -> None:
    """Change it. At each moment it is one of the two names, or none."""
    data = name.encode("utf-8", "surrogatepass")
    at = layout.DEAD_LETTER_AT
    segment.words[at >> 3] = 0
    segment.bytes[at + 8 : at + 8 + len(data)] = data
    segment.words[at >> 3] = len(data)
