# SPDX-License-Identifier: GPL-2.0-or-later
"""The byte format of a queue's segment, version 5: offsets and structs, no behaviour.

    0        4096        ENTRIES_AT           HEAP_AT            DIRECTORY_AT   DATA (a multiple of the chunk size)
    +--------+-----------+--------------------+------------------+--------------+- - -+---------+---------+----
    | header | chunk map | in-flight entries  | redelivery heap  | directory    |     | chunk 0 | chunk 1 | ...
    |        | a byte a  | 64 bytes each      | u32 each         | u64 each,    |     | reserved on demand
    |        | chunk     |                    |                  | keyed only   |     |
    +--------+-----------+--------------------+------------------+--------------+- - -+---------+---------+----

    chunk:   next u64 | previous u64 | dead u64 | first u64 | held u64 | detached u64 | free u64 u64 | records ...
    record:  step u32 | key length u32 | value length u32 | link u32 | added f64 | key | value | (envelope) | padding
    entry:   at u64 | seq u64 | due u64 | holder u64 | start u64 | pid u32 | namespace u32 |
             deliveries u32 | heap position u32 | next free u32 | uncounted u32
    journal: commit u64, then on the next line pairs of (where u64, value u64)

What each word means, and every order of stores, is in docs/format.md. All offsets are in bytes from the beginning of
the segment, all numbers in the machine's own byte order. Whoever changes anything here raises VERSION.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from kemi.frozen import NamedTuple

MAGIC = b"mqkemi-q"
INSTANCE_MAGIC = b"mqkemi-i"
VERSION = 5
REVISION = 2  # of a version that was not released yet: what an earlier draft of it wrote is not read
PAGE = 4096
LINE = 64  # bytes that one processor writes without taking away what another one reads

PREFIX = struct.Struct("=8sII32s")  # magic, version, revision, ABI text

# --- header: indexes of u64 words, a line of eight for each kind of writer -------------------------------------------

# Written once, before the segment has its name.
W_CREATED = 6  # ns since the epoch; with an item's seq it is the item's id
W_MAP_SIZE = 7  # bytes that a process maps; the segment never grows beyond them
W_DATA = 8  # offset of chunk 0
W_CHUNK_BITS = 9  # a chunk has 1 << so many bytes
W_ADDMODE = 10  # 0 plain, 1 the oldest item of a key stays, 2 the newest
W_SECRET = 11  # of the key index's hash; 0 in a plain queue
W_HASH = 12  # form of that hash; 0 in a plain queue
W_CAPACITY = 13  # in-flight entries
W_ENTRIES_AT = 14  # offset of the in-flight entries
W_HEAP_AT = 15  # offset of the redelivery heap
W_DIRECTORY_AT = 16  # offset of the key index's directory; 0 in a plain queue
W_BUCKETS_PER_CHUNK = 17  # of the key index; 0 in a plain queue
W_QUOTA_ENTRY = 18  # the queue's entry in the quota of its instance
W_MOST_FREE = 19  # free chunks that keep their memory
# Whose the queue is: changed when it is adopted.
W_OWNER_PID = 24
W_OWNER_START = 25  # when that process started, in ticks since the boot
W_OWNER_NAMESPACE = 26  # its pid namespace
W_OWNER_LIFE = 27  # number of its life lock; 0 = none
# Limits and policy: set under the lock.
W_SIZE_LIMIT = 32  # items; 0 = none
W_BYTE_LIMIT = 33  # bytes of records; 0 = none
W_MAX_DELIVERIES = 34  # of one item; 0 = any number
W_MAX_AGE = 35  # ns since it was added that an item is delivered for; 0 = for ever
W_DBMODE = 36
W_RECOVER = 37
W_TRANSFER_STATE = 40  # 0 = no transfer of the items to another place was begun
W_FIRST_ROW = 41  # signed id
W_LAST_ROW = 42
# On a line alone: read by everybody, written when something begins or ends.
W_FLAGS = 48  # see ADD_* and FETCH_*; 0 = the short way is open
# Producers, under the lock. Of the words of TAIL, W_TAIL + (ADDED & 1) counts, W_TAIL_ODD - (ADDED & 1) does not.
W_ADDED = 56  # records that were ever appended; its store commits an add
W_TAIL = 57  # offset behind the last record
W_TAIL_ODD = 58
# Consumers, under the lock. Of the words of HEAD, W_HEAD + (POPPED & 1) counts, W_HEAD_ODD - (POPPED & 1) does not.
W_POPPED = 64  # records that ever left the log at its head; its store commits a fetch
W_HEAD = 65  # offset of the oldest record
W_HEAD_ODD = 66
W_HIGH_WATER = 67  # most items in the log, as fetches saw it
# Eventcount.
W_EVENT = 72  # low half: the futex word, changed by each notify
W_WAITERS = 73  # that were not notified yet; may be too high, never too low
W_PRESENT = 74  # processes between the beginning and the end of their wait; too high by those that were killed
# Growth and the keyed log.
W_CHUNKS = 80  # in the log, from the one with HEAD to the one with TAIL
W_FREE_CHUNKS = 81  # that have memory and are not in use
W_BURIED = 82  # records that ever left the log in its middle; keyed only
W_DEAD = 83  # bytes of tombstones from HEAD to TAIL; keyed only
W_BUCKETS = 84  # in use; keyed only
W_SHAPE = 85  # how often buckets or directory changed, so that a process sees that what it worked out is old
W_TARGET = 86  # chunk that compaction fills; 0 = none
W_TARGET_AT = 87  # offset in it behind the last record; 0 = none
W_SOURCE_AT = 88  # offset in the chunk behind it from which records are moved; 0 = its beginning
W_SWEEP = 89  # chunk that is looked at next for compaction; 0 = the second one of the log
# In flight.
W_IN_FLIGHT = 96  # entries in use: held or returned
W_RETURNED = 97  # of these, the returned: length of the heap
W_FREE_ENTRY = 98  # number + 1 of the first entry of the free list; 0 = none
W_FRESH_ENTRY = 99  # entries from this one on were never used
W_HELD_BYTES = 100  # bytes of the records in flight
# Statistics: changed with what they count.
W_DROPPED = 104  # by the size limit
W_EXPIRED = 105  # by max age
W_DISCARDED = 107  # returned items that gave way to another one of their key
W_RECOVERED = 108  # operations that were broken off
W_DEAD_LETTERS = 109  # moved to the dead letter queue
W_EXHAUSTED = 110  # given back after the last delivery, without a dead letter queue
W_UNMOVED = 111  # moves to the dead letter queue that failed
W_REFUSED = 112  # adds that were refused, a word for each reason: REFUSALS
REFUSALS = 4  # NO_MEMORY, TOO_LARGE, FULL, CLOSED, as `outcome.AddResult` numbers them, from 3 on
FIRST_REFUSAL = 3
# The lock is no business of the parts. W_MUTEX says which mutex is in use: one that became unrecoverable is replaced by
# the next, never initialised again, since who still waits for it is told so by the kernel, and looks here.
W_MUTEX = 128
MUTEX_AT = 3072
MUTEX_STRIDE = 64
MUTEX_COUNT = 16
# The journal.
W_COMMIT = 144  # pairs of the list that count; 0 = none
JOURNAL_AT = 1216
MAX_PAIRS = 48
# Name of the dead letter queue: length u64, UTF-8 (surrogatepass).
DEAD_LETTER_AT = 2048
DEAD_LETTER_MAX = 255
# Positions in the streams that are relayed to this queue, 4 words each: source, and two words that are its own.
POSITIONS_AT = 2560
POSITIONS = 16
POSITION_WORDS = 4

# Time in the queue, of what left the log at its head by a fetch or a first delivery: a word for each of WAITED_BOUNDS,
# and one for what took longer. It is measured for one record, and counted for all that left since the last one.
W_WAITED = 296
WAITED_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)  # seconds, inclusive
W_WAITED_SUM = 310  # microseconds
W_MEASURED = 311  # POPPED when it was measured last
# Of an answers queue only. What became of questions is written by the answers process: each ends once.
MAX_SHARDS = 16  # answers queues of an instance
W_ASK_SERVER = 248  # pid, start and namespace of the answers process; pid 0 = none yet
W_ASK_SLOW = 251  # routes that took longer than 50 ms
W_ASKED = 312  # questions that were ever entered; under the lock
W_ASK_ANSWERED = 313
W_ASK_FAILED = 314  # a worker said so, or it could not be queued
W_ASK_TIMED_OUT = 315
W_ASK_CANCELLED = 316  # the caller gave up: the route did not run
W_ASK_GONE = 317  # the transaction was not there any more, or not suspended
W_ASK_WITHDRAWN = 318  # not asked after all
ASK_ENDS = 6  # words of that, from ASK_ANSWERED on
W_ASK_LATE = 319  # answers for no question that waits: late, or a second one

# Bits of W_FLAGS. An add takes the short way when none is set, a fetch when the word is below FETCH_FLAGS.
ADD_LIMITED = 1  # a limit is set
ADD_CLOSED = 2  # ended by its owner: nothing is added any more
ADD_WAITING = 4  # somebody waits to be notified
FETCH_FLAGS = 8
FETCH_IN_FLIGHT = 8  # an in-flight entry is in use
FETCH_AGING = 16  # a max age is set
FETCH_MOVED = 32  # the items are on their way to another place
PENDING = 64  # an operation of several stores is under way, or was broken off

# --- the journal ------------------------------------------------------------------------------------------------------

# Kind of a store in the upper bits of `where`; below, the index of the number among numbers of that size.
U64, U32, U8 = 0, 1 << 60, 2 << 60
KIND_SHIFT = 60
INDEX_MASK = U32 - 1

# --- chunks -----------------------------------------------------------------------------------------------------------

CHUNK_BITS = 18
CHUNK = 1 << CHUNK_BITS
MIN_CHUNK_BITS = 12
CHUNK_MAP_AT = PAGE
# States in the chunk map.
ABSENT = 0  # no memory
FREE = 1  # memory, not in use
USED = 2
TAKEN = 3  # by the operation under way: used if it is committed, else free
LEAVING = 4  # of the operation under way: free if it is committed, else used
UNSURE = 5  # its memory is being reserved or released
# Free chunks that keep their memory, so that a queue that grows and shrinks asks the system for none: those of all
# queues together are a part of the chunks that there may be, but a queue has so many at least, and at most.
FREE_SHIFT = 5
MIN_FREE = 2
MAX_FREE = 32

# Words of a chunk's head.
C_NEXT = 0  # offset of the chunk that follows in the log
C_PREVIOUS = 1  # keyed only; means nothing in the chunk with HEAD
C_DEAD = 2  # bytes of tombstones in it, behind HEAD; keyed only
C_FIRST = 3  # offset of the first record that begins in it; 0 = none does; keyed only
C_HELD = 4  # records in flight that begin or end here
C_DETACHED = 5  # 1 = HEAD has left it, and it is in use for records in flight alone
CHUNK_HEAD = 64
CHUNK_ROOM = CHUNK - CHUNK_HEAD

# --- records ----------------------------------------------------------------------------------------------------------

RECORD = struct.Struct("@IIIId")  # native is faster, and has no gaps here
RECORD_HEAD = RECORD.size
R_STEP, R_KEY, R_VALUE, R_LINK = range(4)  # u32 words
R_ADDED = 16  # bytes to the time of adding: f64, seconds since the epoch
TOMBSTONE = 1 << 31  # in step: only step means anything
RETURNED = 1 << 30  # in step: in flight and given back; keyed only
STEP_MASK = RETURNED - 1
VALUE_PASS = 1 << 31  # in the value's length: how the texts were encoded
KEY_PASS = 1 << 30
QUESTION = 1 << 29  # in the value's length: somebody waits for an answer, and an envelope follows the value
LENGTH_MASK = QUESTION - 1
ENVELOPE_BYTES = 64  # not counted in the value's length
MAX_STEP = LENGTH_MASK - 7
LINK_SHIFT = 3  # a link is the distance from chunk 0 in units of 8 bytes; 0 = none

# --- in-flight entries ------------------------------------------------------------------------------------------------

CAPACITY = 1024
MAX_CAPACITY = 4096  # what one list of the journal can sift
ENTRY = struct.Struct("=QQQQQIIIIII")
ENTRY_BYTES = ENTRY.size
ENTRY_WORDS = ENTRY_BYTES // 8
E_AT = 0  # u64: offset of the record; 0 = not in use
E_SEQ = 1  # u64: the record's number among all that left the log
E_DUE = 2  # u64: monotonic ns of the host (see `clock`) before which it is not redelivered; 0 = at once
E_HOLDER = 3  # u64: life lock of the process that holds it, or held it last
E_START = 4  # u64: start of that process, for people
E_PID = 10  # u32, for people
E_NAMESPACE = 11  # u32: pid namespace, for people
E_DELIVERIES = 12  # u32: how often it was delivered
E_POSITION = 13  # u32: place in the heap, from 1 on; 0 = held
E_NEXT_FREE = 14  # u32: number + 1 of the next free entry; 0 = none
E_UNCOUNTED = 15  # u32: deliveries that count for nothing, because the item was given back so

# --- the instance's own segment: the header's prefix, CREATED, MAP_SIZE, owner and mutex, and these -------------------

W_MAX_MEMORY = 20  # bytes that its queues may hold together
QUOTA_AT = PAGE  # u64 each: bytes that a queue holds, 0 = the entry is free
QUOTA_ENTRIES = 4096
QUOTA_IDS_AT = QUOTA_AT + QUOTA_ENTRIES * 8  # u64 each: CREATED of the queue that an entry is for
INSTANCE_BYTES = QUOTA_IDS_AT + QUOTA_ENTRIES * 8

# --- key index --------------------------------------------------------------------------------------------------------

DIRECTORY_ENTRIES = 1024
SIPHASH_1_3, SIPHASH_2_4 = 13, 24  # forms of the hash


class Mapping(NamedTuple):
    """One piece of memory as bytes (slices of it are bytes), and as aligned 64- and 32-bit numbers."""

    bytes: Any
    u64: Any
    u32: Any
