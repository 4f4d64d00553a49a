/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Append and pop of a keyed log (docs/format.md, orders 4, 5 and 6), as kemi/queue/log/keyed.py and
 * kemi/queue/store/keyindex.py have them. More buckets, fewer buckets and compaction are Python's.
 */
#ifndef K_KEYED_H
#define K_KEYED_H

#include "../segment/journal.h"
#include "keyed_across.h"
#include "plain.h"

/* --- the hash: SipHash, whose key has the queue's secret as its lower half and 0 as its upper one ------------------ */

#define ROTATED(x, b) ((x) << (b) | (x) >> (64 - (b)))

static inline void
stir(uint64_t v[4], int times)
{
    while (times--) {
        v[0] += v[1], v[1] = ROTATED(v[1], 13) ^ v[0], v[0] = ROTATED(v[0], 32);
        v[2] += v[3], v[3] = ROTATED(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = ROTATED(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = ROTATED(v[1], 17) ^ v[2], v[2] = ROTATED(v[2], 32);
    }
}

static uint64_t
key_hash(const Queue *q, const char *key, size_t length)
{
    uint64_t v[4] = {UINT64_C(0x736F6D6570736575) ^ q->secret, UINT64_C(0x646F72616E646F6D),
                     UINT64_C(0x6C7967656E657261) ^ q->secret, UINT64_C(0x7465646279746573)};
    uint64_t block, last = (uint64_t)length << 56;
    size_t whole = length & ~(size_t)7;
    for (size_t at = 0; at < whole; at += 8) {
        memcpy(&block, key + at, 8);
        v[3] ^= block;
        stir(v, q->block_rounds);
        v[0] ^= block;
    }
    for (size_t at = whole; at < length; at++)
        last |= (uint64_t)(unsigned char)key[at] << 8 * (at - whole);
    v[3] ^= last;
    stir(v, q->block_rounds);
    v[0] ^= last;
    v[2] ^= 0xFF;
    stir(v, q->end_rounds);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* --- the index ---------------------------------------------------------------------------------------------------- */

enum { LONG_CHAIN = 64 }; /* records in a bucket; a longer one is looked through by Python */

/* The bucket for a key of this hash, as an index among the u32 words; 0 where Python has to look. */
static uint64_t
bucket_of(Queue *q, uint64_t buckets, uint64_t hash)
{
    if (buckets < q->per_chunk || buckets > K_DIRECTORY_ENTRIES * q->per_chunk)
        return 0;
    uint64_t power = UINT64_C(1) << (63 - __builtin_clzll(buckets));
    uint64_t number = hash & (2 * power - 1) & 0xFFFFFFFF;
    if (number >= buckets)
        number -= power;
    uint64_t chunk = LOAD(&q->u64[q->directory + number / q->per_chunk]);
    if (chunk & q->mask || !is_used(q, chunk))
        return 0;
    return (chunk >> 2) + (number & (q->per_chunk - 1));
}

/* What can be done for a record without the lock: its hash, and its bucket is on its way here meanwhile. */
static inline void
look_ahead(Queue *q, Record *record)
{
    record->hash = key_hash(q, record->key, record->key_length);
    uint64_t bucket = bucket_of(q, LOAD(&q->u64[K_W_BUCKETS]), record->hash);
    will_read(q->base + bucket * 4, 1);
}

/* The record to which a link leads; 0 where Python has to look. */
static inline uint64_t
linked(Queue *q, uint64_t link)
{
    uint64_t at = q->data + (link << K_LINK_SHIFT);
    return is_place(q, at) && at + K_RECORD_HEAD <= chunk_end(q, at) ? at : 0;
}

/* Look for a key from a bucket on. GOT: *lead leads to the record *at; EMPTY: there is none; SLOW. */
static int
seek(Queue *q, uint64_t bucket, const char *key, size_t length, uint64_t *lead, uint64_t *at)
{
    *lead = bucket;
    for (int seen = 0; seen < LONG_CHAIN; seen++) {
        uint64_t link = LOAD(&q->u32[*lead]);
        if (!link)
            return EMPTY;
        if (!(*at = linked(q, link)))
            return SLOW;
        if (LOAD(&q->u32[(*at >> 2) + K_R_KEY]) == length) {
            if (*at + K_RECORD_HEAD + length > chunk_end(q, *at))
                return SLOW;
            if (!memcmp(q->base + *at + K_RECORD_HEAD, key, length))
                return GOT;
        }
        *lead = (*at >> 2) + K_R_LINK;
    }
    return SLOW;
}

static inline uint64_t
in_log(Queue *q)
{
    return LOAD(&q->u64[K_W_ADDED]) - LOAD(&q->u64[K_W_POPPED]) - LOAD(&q->u64[K_W_BURIED]);
}

/* --- append ------------------------------------------------------------------------------------------------------- */

/* Order 4: a key that is not there. */
static int
append_new(Queue *q, const Record *record, uint64_t bucket, uint64_t at, uint64_t flags)
{
    uint64_t *u64 = q->u64;
    uint64_t added = LOAD(&u64[K_W_ADDED]);
    write_record(q, at, record);
    STORE(&q->u32[(at >> 2) + K_R_LINK], LOAD(&q->u32[bucket]));
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    STORE(&u64[K_W_TAIL_ODD - (added & 1)], at + record->step);
    COMMIT(&u64[K_W_ADDED], added + 1);
    STORE(&q->u32[bucket], (uint32_t)((at - q->data) >> K_LINK_SHIFT));
    STORE(&u64[K_W_FLAGS], flags);
    return GOT;
}

/* Order 6: a record whose key an older one has, which becomes a tombstone. */
static int
replace(Queue *q, const Record *record, uint64_t lead, uint64_t old, uint64_t at, uint64_t flags)
{
    uint64_t *u64 = q->u64;
    uint64_t room = q->chunk - K_CHUNK_HEAD, length = LOAD(&q->u32[old >> 2]);
    uint64_t chunk = ((old & ~q->mask) >> 3) + K_C_DEAD;
    uint64_t dead = LOAD(&u64[chunk]) + length, dead_in_all = LOAD(&u64[K_W_DEAD]) + length;
    if (length & ~K_STEP_MASK || length < K_RECORD_HEAD || length & 7 || dead > room)
        return SLOW;
    Unlinked gone = {0, 0, 0};
    uint64_t chunks = LOAD(&u64[K_W_CHUNKS]);
    if (dead == room) {
        if (find_neighbours(q, old & ~q->mask, at & ~q->mask, &gone) != GOT || dead_in_all < dead)
            return SLOW;
        dead_in_all -= dead, chunks--;
    }
    /* Is compaction due then? (FACTOR and SLACK_CHUNKS of kemi/queue/log/compaction.py) Beside the main thread it can wait until
     * a sixteenth is alive. */
    if (dead_in_all > 2 * room && (is_beside() ? dead_in_all * 16 > 15 * room * chunks + 15 * room
                                               : LOAD(&u64[K_W_TARGET]) || dead_in_all * 3 > 2 * room * chunks + 2 * room))
        return SLOW;
    uint64_t added = LOAD(&u64[K_W_ADDED]);
    write_record(q, at, record);
    STORE(&q->u32[(at >> 2) + K_R_LINK], LOAD(&q->u32[(old >> 2) + K_R_LINK]));
    STORE(&u64[K_W_TAIL_ODD - (added & 1)], at + record->step);
    uint64_t pairs[] = {K_W_ADDED,        added + 1,
                        K_U32 + lead,     (at - q->data) >> K_LINK_SHIFT,
                        K_U32 + (old >> 2), length | K_TOMBSTONE,
                        K_W_BURIED,       LOAD(&u64[K_W_BURIED]) + 1,
                        chunk,            dead,
                        K_W_DEAD,         dead_in_all,
                        (gone.before >> 3) + K_C_NEXT,     gone.behind,
                        (gone.behind >> 3) + K_C_PREVIOUS, gone.before,
                        K_W_CHUNKS,       chunks};
    uint64_t count = sizeof pairs / sizeof *pairs / 2;
    if (gone.chunk)
        return do_and_free(q, pairs, count, &gone.chunk, 1, flags);
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    commit_list(q, pairs, count - 3);
    close_list(q);
    STORE(&u64[K_W_FLAGS], flags);
    return GOT;
}

/* Append a record, or find that its key is there and stays: *kept. */
static int
keyed_append(Queue *q, Record *record, uint64_t flags, int *kept)
{
    uint64_t buckets = LOAD(&q->u64[K_W_BUCKETS]), lead, old = 0;
    uint64_t bucket = bucket_of(q, buckets, record->hash);
    if (!bucket)
        return SLOW;
    int found = seek(q, bucket, record->key, record->key_length, &lead, &old);
    if (found == SLOW)
        return SLOW;
    if (found == GOT && q->addmode == 1) {
        *kept = 1;
        return GOT;
    }
    uint64_t at = LOAD(&q->u64[K_W_TAIL + (LOAD(&q->u64[K_W_ADDED]) & 1)]), items = in_log(q);
    if (!is_place(q, at) || (flags & K_ADD_LIMITED && over_a_limit(q, record->step, found != GOT)))
        return SLOW;
    /* From so many items on there is to be one more bucket. What a thread beside the main one leaves, the next adds make up for. */
    if (found != GOT && items + LOAD(&q->u64[K_W_RETURNED]) >= buckets && !is_beside())
        return SLOW;
    /* Within limits it is one operation with the append, in Python. */
    if (at + record->step >= chunk_end(q, at) &&
        ((flags & K_ADD_LIMITED && !is_beside()) || make_room(q, items, record->step, &at) != GOT))
        return SLOW;
    if (found == GOT)
        return replace(q, record, lead, old, at, flags);
    if (record->added == NOT_YET)
        record->added = wall_clock();
    return append_new(q, record, bucket, at, flags);
}

/* --- pop ---------------------------------------------------------------------------------------------------------- */

/* What leads to a record, as an index among the u32 words; 0 where Python has to look. The record's key is in its chunk. */
static uint64_t
lead_to(Queue *q, uint64_t record)
{
    uint64_t length = LOAD(&q->u32[(record >> 2) + K_R_KEY]), at = 0;
    if (record + K_RECORD_HEAD + length > chunk_end(q, record))
        return 0; /* a wild store came since it was looked at */
    uint64_t lead = bucket_of(q, LOAD(&q->u64[K_W_BUCKETS]), key_hash(q, q->base + record + K_RECORD_HEAD, length));
    for (int seen = 0; lead; seen++) {
        at = linked(q, LOAD(&q->u32[lead]));
        if (at == record)
            return lead;
        if (!at || seen >= LONG_CHAIN)
            return 0;
        lead = (at >> 2) + K_R_LINK;
    }
    return 0;
}

/* With so few items some buckets are to go, if they have more than one chunk. */
static inline int
has_spare_buckets(Queue *q, uint64_t items)
{
    uint64_t buckets = LOAD(&q->u64[K_W_BUCKETS]);
    return buckets > q->per_chunk && items * 2 < buckets && !is_beside(); /* else somebody else's next fetch sees to it */
}

/* Order 5. */
static int
keyed_pop(Queue *q, PyObject **record, uint64_t flags)
{
    uint64_t *u64 = q->u64;
    uint64_t popped = LOAD(&u64[K_W_POPPED]), odd = popped & 1, items = in_log(q), lead;
    if (!items)
        return EMPTY;
    uint64_t head;
    if (items > (q->map_size - q->data) >> 3 || skip_tombstones(q, &head) != GOT)
        return SLOW;
    uint64_t step = LOAD(&q->u32[head >> 2]), end = head + step;
    if (step < K_RECORD_HEAD || step & 7 || end >= chunk_end(q, head))
        return SLOW;
    if (K_RECORD_HEAD + LOAD(&q->u32[(head >> 2) + K_R_KEY]) > step || has_spare_buckets(q, items) ||
        !(lead = lead_to(q, head)))
        return SLOW;
    *record = PyBytes_FromStringAndSize(q->base + head, (Py_ssize_t)step);
    if (!*record)
        return FAILED;
    if (items > LOAD(&u64[K_W_HIGH_WATER]))
        STORE(&u64[K_W_HIGH_WATER], items);
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    STORE(&q->u32[lead], LOAD(&q->u32[(head >> 2) + K_R_LINK]));
    STORE(&u64[K_W_HEAD_ODD - odd], end);
    COMMIT(&u64[K_W_POPPED], popped + 1);
    STORE(&u64[K_W_FLAGS], flags);
    measure(q, head, step, *record);
    return GOT;
}

#endif
