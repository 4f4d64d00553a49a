"""The byte format of a segment: offsets and structs, no behaviour.

    0        4096        +chunk map      +bucket directory   +set aside     CHUNK-aligned
    +--------+-----------+---------------+-------------------+--------------+---------+---------+----
    | header | chunk map | directory     | four columns of   | (a hole,     | chunk 0 | chunk 1 | ...
    |        |           |               | SLOTS words each  |  never used) |         |         |
    +--------+-----------+---------------+-------------------+--------------+---------+---------+----
      words    1 byte      8 bytes for     what was taken                     reserved on demand
      lock     a chunk     256 KiB of      and is not done
                           buckets (keyed
                           queues only)

A chunk of the stream starts with a small head, then records follow one another. The payload of a record may go on in
the next chunk (the one that `CHUNK_NEXT` names); its head never does.

    chunk:   next u64 | previous u64 | dead u64 | first u64 | records ...         (keyed queues)
             next u64 | previous u64 | mark u64 | serial u64 | records ...        (others, see `kemi.queue.marks`)
    record:  step u32 | key length u32 | value length u32 | link u32 | added f64 | key | value | (padding to 8)

`step` is the distance to the next record, a multiple of 8; its bit 31 marks a dead record, of which only `step` means
anything. Bits 30 and 31 of the value's length tell how key and value were encoded (see `kemi.queue.item`). A keyed
queue chains the records of one bucket: bucket and `link` (u32) have the next one's distance from chunk 0 in units of 8
bytes, 0 for none.

Cursors are byte offsets in the segment. They are never at a chunk's end: a record that ends just there leaves the
cursor at the beginning of the next chunk. So head == tail means empty, and nothing else does.

A reserved record stays where it lies; HEAD goes past it, and its chunks stay in use (see `kemi.queue.aside`):

    columns: state u64 (0 free; bits 0-2 RESERVED or RETURNED, 3-47 offset of the record, 48-63 deliveries) |
             turn u64 | start of the holder u64 | pid and namespace of the holder u32 u32

All numbers are in the machine's own byte order; the ABI text in the header keeps others out. Any change here raises
VERSION.
"""

from __future__ import annotations

import os
import struct
import sys

MAGIC = b"mqkemi-q"
INSTANCE_MAGIC = b"mqkemi-i"
VERSION = 4

PAGE = 4096
CHUNK_BITS = 18
CHUNK = 1 << CHUNK_BITS
CHUNK_MASK = CHUNK - 1

# --- header ---------------------------------------------------------------------------------------------------------

PREFIX = struct.Struct("=8sII32s")  # magic, version, (free), ABI text: what a foreign segment fails at
PREFIX_ABI_OFFSET = 16

# 64-bit words of the header, by index. The first group is written once, before the segment gets its name.
W_CREATED = 6  # time of creation in ns: tells one life of a name from the next
W_WINDOW = 7  # bytes that the segment may grow to
W_DATA = 8  # offset of chunk 0
W_BUCKETS_AT = 9  # offset of the bucket directory, 0 when the queue has no key index
W_ADDMODE = 10
W_SLOT = 11  # the queue's line in the instance's table of memory
W_SECRET = 12  # of the key index's hash
W_HASH = 13  # the form of that hash
W_OWNER = 14  # three words: pid, start, namespace
# Limits, changed under the lock.
W_SIZE_LIMIT = 17  # items, 0 = none
W_BYTE_LIMIT = 18  # bytes, 0 = none
W_MAX_DELIVERIES = 19  # of one item, 0 = any number
W_ASIDE_AT = 20  # offset of the columns of what is set aside; written once
# What becomes of the items when the server ends (see `keeping`).
W_DBMODE = 24
W_RECOVER = 25
W_CROSSING = 26  # 0, or how far the way between the queue and its table went
W_FIRST_ROW = 27  # a signed id, or the upper half of a transfer's token (see `keeping`)
W_LAST_ROW = 28
W_MOVING = 29  # 1 while its items are on their way to another place (see `Life.moving`)
# Under the lock, by every add and fetch.
W_HEAD = 32
W_TAIL = 33
W_ADDED = 34
W_REMOVED = 35
W_WATCH = 36  # not 0 when an add has more to do than to append, see WATCH_*
W_SIGNAL = 37  # the futex word, 32 bits
W_CHUNKS = 38  # chunks in the stream
W_SPARE = 39  # chunks that are reserved and not in use
W_DEAD = 40  # bytes of dead records from HEAD to TAIL, keyed queues only
W_BUCKETS = 41  # low half: buckets in use; high half: how often the directory changed. Keyed queues only
W_GATE = 42  # a pop that finds more items than this has more to do: a new W_HIGH; or 0 while anything is set aside
W_ASIDE = 43  # slots in use: reserved, or returned
W_RETURNED = 44  # of these, returned
W_TOP = 45  # no slot from this one on is in use
W_TURN = 46  # how many were ever set aside: their order
# Statistics.
W_HIGH = 48
W_DROPPED = 49
W_REPLACED = 50
W_REFUSED = 51
W_RECOVERED = 52
W_DEAD_LETTERS = 53  # moved to the queue for what was delivered too often
W_EXHAUSTED = 54  # times that an item was given back after its last delivery, and there was no such queue

WATCH_LIMITS = 1  # a limit is set
WATCH_CLOSED = 2  # unlinked by its owner: nothing may be added any more
WATCH_SLEEPER = 4  # one for each process that waits

# Which mutex is in use. A mutex that became unrecoverable is replaced by the next one, never initialised again: who
# still waits on the old one is told so by the kernel and looks here.
W_MUTEX = 63
MUTEX_AT = 1024
MUTEX_STRIDE = 64
MUTEX_COUNT = 16

# Name of the queue for what was delivered too often: length u64, then UTF-8 (surrogatepass).
DEAD_LETTER_AT = 2048
DEAD_LETTER_MOST = 255

HEADER_WORDS = 64

# --- chunks ---------------------------------------------------------------------------------------------------------

CHUNK_ABSENT, CHUNK_FREE, CHUNK_USED = 0, 1, 2  # in the chunk map

CHUNK_NEXT = 0  # words of a chunk's head
CHUNK_PREVIOUS = 1
CHUNK_DEAD = 2  # bytes of dead records in it, none of them before HEAD; keyed queues only
CHUNK_FIRST = 3  # offset of the first record that starts here, or that will when TAIL is there; 0 = none; keyed only
CHUNK_MARK = 2  # offset at which TAIL came into this chunk; not in keyed queues
CHUNK_SERIAL = 3  # how many items had ever been appended then, sealed; 0 = this chunk has no mark; not in keyed queues
CHUNK_HEAD = 32
CHUNK_ROOM = CHUNK - CHUNK_HEAD

# --- records --------------------------------------------------------------------------------------------------------

RECORD = struct.Struct("@IIIId")  # native is faster, and has no gaps here
RECORD_HEAD = RECORD.size
R_KEY_LENGTH, R_VALUE_LENGTH, R_LINK = 1, 2, 3  # 32-bit words after `step`
DEAD = 1 << 31
STEP_MASK = DEAD - 1
MAX_STEP = 1 << 30
VALUE_PASS = 1 << 31
KEY_PASS = 1 << 30
LENGTH_MASK = KEY_PASS - 1

# --- what is set aside ----------------------------------------------------------------------------------------------

SLOTS = 1024
ASIDE_BYTES = 4 * SLOTS * 8
RESERVED, RETURNED = 1, 2  # states of a slot
SLOT_STATE = 7
SLOT_AT = (1 << 48) - 8
SLOT_DELIVERIES = 48  # shift
MOST_DELIVERIES = (1 << 16) - 1

# --- key index ------------------------------------------------------------------------------------------------------

BUCKETS_PER_CHUNK = CHUNK // 4
BUCKETS_MASK = (1 << 32) - 1
LINK_SHIFT = 3  # a link is in units of 8 bytes
SIPHASH_1_3, SIPHASH_2_4 = 13, 24  # forms of the hash
DIRECTORY_ENTRIES = 1024

# --- the instance's own segment -------------------------------------------------------------------------------------

W_MAX_MEMORY = 17  # bytes that its queues may hold together
TABLE_AT = PAGE
TABLE_ENTRIES = 4096
HOLDERS_AT = TABLE_AT + TABLE_ENTRIES * 8  # which queue a line is for, by its W_CREATED
INSTANCE_BYTES = HOLDERS_AT + TABLE_ENTRIES * 8


def abi() -> bytes:
    """What must be the same in all processes that share a mutex: architecture, word size, byte order, C library."""
    try:
        libc = (os.confstr("CS_GNU_LIBC_VERSION") or "libc").split()[0]
    except (ValueError, OSError):
        libc = "libc"
    return f"{os.uname().machine}-{struct.calcsize('P') * 8}{sys.byteorder[0]}-{libc}".encode()[:32]


def map_bytes(window: int) -> int:
    """Length of the chunk map for a segment that may grow to `window` bytes, in whole pages."""
    return -(-window // CHUNK // PAGE) * PAGE


def fixed_bytes(window: int, keyed: bool) -> int:
    """Length of all that lies before the chunks."""
    return aside_offset(window, keyed) + ASIDE_BYTES


def aside_offset(window: int, keyed: bool) -> int:
    """Offset of the columns of what is set aside."""
    return PAGE + map_bytes(window) + (DIRECTORY_ENTRIES * 8 if keyed else 0)


def data_offset(window: int, keyed: bool) -> int:
    """Offset of chunk 0."""
    return -(-fixed_bytes(window, keyed) // CHUNK) * CHUNK
