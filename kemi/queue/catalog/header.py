# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of a header that every segment has: what it is, who owns it, its lock; and whether a segment is whole."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from kemi.errors import InstanceInUse, SegmentError
from kemi.names import VERSION as RELEASE
from kemi.owner import Owner
from kemi.queue.catalog import ownership
from kemi.queue.format import geometry, keyhash, layout
from kemi.queue.format.abi import abi
from kemi.queue.format.layout import ABSENT, CHUNK_MAP_AT, LEAVING, TAKEN, UNSURE, USED
from kemi.queue.shm.naming import path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kemi.queue.shm.segment import Segment

Check = Callable[[int, str], int]  # descriptor and name → bytes to map

_LOOKS = 3  # at a header that does not change
_PATIENCE = 1.0  # seconds for one that does
_BLOCK = 512  # bytes of a block in what stat says
_PIECE = 1 << 16  # bytes of a chunk map that are read at once
_MAX_VERSION = 1 << 16  # what is more is no version
_FARTHEST = 1 << 46  # bytes that a segment can have
_BUCKET_BYTES = 4
# What a robust, shared mutex that checks errors has in glibc, on every architecture.
_KIND, _GLIBC_KIND = slice(16, 20), (16 | 128 | 2).to_bytes(4, sys.byteorder)
_IN_USE = (USED, TAKEN, LEAVING)
_WITH_MEMORY = [bytes([state]) for state in range(UNSURE) if state != ABSENT]


def write(segment: Segment, magic: bytes, owner: Owner) -> None:
    """Fill the common part of a zeroed header."""
    segment.bytes[: layout.PREFIX.size] = layout.PREFIX.pack(magic, layout.VERSION, layout.REVISION, abi())
    segment.words[layout.W_CREATED] = time.time_ns()
    segment.words[layout.W_MAP_SIZE] = segment.window
    set_owner(segment, owner)
    from kemi.queue.lock import pthread  # who only looks does without

    pthread.initialise(segment, 0)


def write_queue(segment: Segment, owner: Owner, addmode: int, place: geometry.Geometry) -> None:
    """Fill the header of a new queue, all but its log."""
    write(segment, layout.MAGIC, owner)
    words = segment.words
    geometry.write(words, place)
    words[layout.W_ADDMODE] = addmode
    if addmode:
        words[layout.W_BUCKETS_PER_CHUNK] = (1 << place.chunk_bits) // _BUCKET_BYTES
        words[layout.W_SECRET], words[layout.W_HASH] = keyhash.new_secret(), keyhash.FORM


def owner_of(segment: Segment) -> Owner:
    """Who owns the segment."""
    return Owner(*segment.words[layout.W_OWNER_PID : layout.W_OWNER_PID + 3])


def set_owner(segment: Segment, owner: Owner) -> None:
    """Make another process the owner, whose life lock is told by `set_life`."""
    segment.words[layout.W_OWNER_LIFE] = 0
    for number, value in enumerate(owner):
        segment.words[layout.W_OWNER_PID + number] = value


def set_life(segment: Segment, number: int) -> None:
    """Tell the owner's life lock, which is on the folder of shared memory: see `presence`."""
    segment.words[layout.W_OWNER_LIFE] = number


def life_of(segment: Segment) -> int:
    """Return the number of the owner's life lock, 0 for none."""
    return int(segment.words[layout.W_OWNER_LIFE])


def is_owner_dead(segment: Segment) -> bool:
    """Return True if the owner is certainly gone, with all processes that were forked from it."""
    return ownership.state_of(owner_of(segment), life_of(segment)) == ownership.DEAD


def refuse_living(segment: Segment, what: str, otherwise: str) -> None:
    """Raise InstanceInUse, which says by whom, unless the owner is certainly gone.

    what: is in use. otherwise: what to do where its main process lives.
    """
    owner, life = owner_of(segment), life_of(segment)
    if ownership.state_of(owner, life) != ownership.DEAD:
        raise InstanceInUse(
            f"{what} in use by {ownership.who(owner, life, segment.user())} ({path_of(segment.name)}): "
            f"{ownership.cure(owner, life, otherwise)}"
        )


def checker(magic: bytes, what: str) -> Check:
    """Return a check for `Segment.attach`: that a segment is of this kind, whole, and made by processes like this one.

    It reads from the file. Nothing is mapped or touched before it is content.
    """

    def map_size_of(fd: int, name: str) -> int:
        deadline = time.monotonic() + _PATIENCE
        seen, looks = b"", 0
        while True:
            first = os.pread(fd, layout.PAGE, 0)
            try:
                return _map_size(fd, first, magic)
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

    return map_size_of


def _map_size(fd: int, first: bytes, magic: bytes) -> int:
    """Bytes to map of a segment of which the first page was read. Raises _Wrong."""
    words = _common_part(first, magic)
    if magic == layout.INSTANCE_MAGIC:
        _check_instance(words, os.fstat(fd).st_size)
    else:
        _check_queue(words)
        _check_chunks(fd, _redone(words))
    return int(words[layout.W_MAP_SIZE])


class _Wrong(Exception):
    """What is wrong with a header."""


def _common_part(first: bytes, magic: bytes) -> memoryview:
    """Return the words of a header, of which the first page was read."""
    if len(first) < layout.PAGE:
        raise _Wrong(f"it has {len(first)} bytes, at least {layout.PAGE} are needed (truncated?)")
    found, version, revision, made_on = layout.PREFIX.unpack_from(first)
    if found != magic:
        raise _Wrong(f"it begins with {found!r}, not {magic!r} (made by another program?)")
    if version != layout.VERSION:
        raise _Wrong(_other_version(version))
    if revision != layout.REVISION:
        raise _Wrong(
            f"it has revision {revision} of format {version}, this is revision {layout.REVISION}: a version that was "
            "never released wrote it; save its items with that one"
        )
    made_by = made_on.rstrip(b"\0")
    if made_by != abi():
        raise _Wrong(f"it was made on {made_by.decode('ascii', 'replace')}, this is {abi().decode()}")
    words = memoryview(first).cast("Q")
    number = words[layout.W_MUTEX]
    if number >= layout.MUTEX_COUNT:
        raise _Wrong(f"it uses lock {number} of {layout.MUTEX_COUNT}")
    at = layout.MUTEX_AT + number * layout.MUTEX_STRIDE
    if not _is_mutex(first[at : at + layout.MUTEX_STRIDE]):
        raise _Wrong("its lock is none")
    return words


def _is_mutex(data: bytes) -> bool:
    if data[_KIND] == _GLIBC_KIND and b"glibc" in abi():
        return True
    from kemi.queue.lock import pthread  # asks the C library, by ctypes

    return pthread.is_one(data)


def _other_version(version: int) -> str:
    """Who wrote another format, and what to do: the server and its workers must be of one version."""
    here = f"it has format {version}, this is format {layout.VERSION}"
    if 0 < version < layout.VERSION:
        return (
            f"{here}: an older mqueue_kemi than this one ({RELEASE}) wrote it. While its server runs, use the older "
            "one; afterwards start it once more with that one, and save the items with its `mqueue-kemi drain`"
        )
    if layout.VERSION < version < _MAX_VERSION:
        return (
            f"{here}: a newer mqueue_kemi than this one ({RELEASE}) wrote it; update this one, since a server and its "
            "workers must have the same format"
        )
    return here


def _check_instance(words: memoryview, size: int) -> None:
    if not words[layout.W_MAP_SIZE] == layout.INSTANCE_BYTES <= size:
        raise _Wrong(f"it has {size} of {layout.INSTANCE_BYTES} bytes (truncated?)")


def _check_queue(words: memoryview) -> None:
    """Raise _Wrong unless the offsets of a queue's header agree with one another."""
    if wrong := geometry.find_wrong(words, _FARTHEST):
        raise _Wrong(wrong)
    if words[layout.W_ADDMODE]:
        if words[layout.W_HASH] not in keyhash.FORMS or words[layout.W_SECRET] > keyhash.MAX_SECRET:
            raise _Wrong(f"its keys are hashed in form {words[layout.W_HASH]}")
        if words[layout.W_BUCKETS_PER_CHUNK] != (1 << words[layout.W_CHUNK_BITS]) // _BUCKET_BYTES:
            raise _Wrong(f"its key index has {words[layout.W_BUCKETS_PER_CHUNK]} buckets in a chunk")
    if words[layout.W_QUOTA_ENTRY] >= layout.QUOTA_ENTRIES:
        raise _Wrong(f"it has entry {words[layout.W_QUOTA_ENTRY]} of {layout.QUOTA_ENTRIES} in its instance's quota")


def _redone(words: memoryview) -> memoryview:
    """Return the words of a queue, its cursors as they are when what a process has committed is stored as a whole.

    It may have been killed or stopped between those stores; the next one who takes the lock does them once more.
    """
    count = words[layout.W_COMMIT]
    if not 0 < count <= layout.MAX_PAIRS:
        return words
    done = memoryview(bytearray(words)).cast("Q")
    first = layout.JOURNAL_AT >> 3
    for at in range(first, first + 2 * count, 2):
        if layout.W_ADDED <= words[at] <= layout.W_HEAD_ODD:
            done[words[at]] = words[at + 1]
    return done


def _check_chunks(fd: int, words: memoryview) -> None:
    """Raise _Wrong unless all chunks of the map are there, and the cursors in chunks that are in use."""
    data, map_size, bits = words[layout.W_DATA], words[layout.W_MAP_SIZE], words[layout.W_CHUNK_BITS]
    status = os.fstat(fd)
    count = (map_size - data) >> bits
    if status.st_blocks * _BLOCK < count:
        # Its maker reserved memory for the whole map. So a size that nobody has paid for costs its reader nothing.
        raise _Wrong(f"its size is {map_size}, but it holds {status.st_blocks * _BLOCK} bytes of memory")
    last = _last_chunk(fd, count)
    end = data + (last + 1 << bits)
    if end > status.st_size:
        raise _Wrong(f"its last chunk ends at {end}, the file at {status.st_size} (truncated?)")
    head = words[layout.W_HEAD + (words[layout.W_POPPED] & 1)]
    tail = words[layout.W_TAIL + (words[layout.W_ADDED] & 1)]
    for name, at in (("head", head), ("tail", tail)):
        number = (at - data) >> bits
        if not 0 <= number <= last or _state(fd, number) not in _IN_USE or at % 8:
            raise _Wrong(f"its {name} is at {at}, which is in no chunk in use (from {data} to {end})")


def _last_chunk(fd: int, count: int) -> int:
    """Return the number of the last chunk with memory behind it, by the chunk map; -1 when there is none."""
    for at in range(-(-count // _PIECE) * _PIECE - _PIECE, -1, -_PIECE):
        piece = os.pread(fd, min(_PIECE, count - at), CHUNK_MAP_AT + at)
        last = max(map(piece.rfind, _WITH_MEMORY))
        if last >= 0:
            return at + last
    return -1


def _state(fd: int, number: int) -> int:
    """Return the state of a chunk, by the chunk map."""
    state = os.pread(fd, 1, CHUNK_MAP_AT + number)
    return state[0] if state else ABSENT


def dead_letter_of(segment: Segment) -> str:
    """Name of the queue for what was delivered too often; "" if there is none."""
    at = layout.DEAD_LETTER_AT
    length = min(segment.words[at >> 3], layout.DEAD_LETTER_MAX)
    return bytes(segment.bytes[at + 8 : at + 8 + length]).decode("utf-8", "surrogatepass")


def set_dead_letter(segment: Segment, name: str) -> None:
    """Change it. At each moment it is one of the two names, or none."""
    data = name.encode("utf-8", "surrogatepass")
    at = layout.DEAD_LETTER_AT
    segment.words[at >> 3] = 0
    segment.bytes[at + 8 : at + 8 + len(data)] = data
    segment.words[at >> 3] = len(data)
