/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holding the oldest record, and being done with one (docs/format.md, order 8), as kemi/queue/log/delivery.py has them:
 * records that lie in one chunk, which stays in use; the others in delivery_across.h.
 */
#ifndef K_DELIVERY_H
#define K_DELIVERY_H

#include "../log/keyed.h"
#include "../log/plain.h"

/* A process that holds items. */
typedef struct {
    uint64_t life, start;
    uint32_t pid, namespace;
} Holder;

/* One delivery of a record, its first one as far as `hold` is concerned. */
typedef struct {
    uint64_t number, seq, turn;
    PyObject *record;
} Held;

/* The u64 word in which an entry begins. */
static inline uint64_t
row_of(Queue *q, uint64_t number)
{
    return q->entries + number * (K_ENTRY_BYTES >> 3);
}

/* Length of the record at a place; 0 where Python has to look, also at a question. */
static inline uint64_t
plain_length(Queue *q, uint64_t at)
{
    if (at + K_RECORD_HEAD > chunk_end(q, at))
        return 0;
    uint64_t step = LOAD(&q->u32[at >> 2]) & ~(q->addmode ? K_RETURNED : 0);
    uint64_t key = LOAD(&q->u32[(at >> 2) + K_R_KEY]), value = LOAD(&q->u32[(at >> 2) + K_R_VALUE]);
    uint64_t whole = (K_RECORD_HEAD + key + (value & K_LENGTH_MASK) + 7) & ~UINT64_C(7);
    return value & K_QUESTION || step != whole || at + step >= chunk_end(q, at) ? 0 : step;
}

/* Fill an entry that is free, all but what counts. */
static void
fill_entry(Queue *q, uint64_t number, const Holder *holder, uint64_t seq, uint32_t following)
{
    uint64_t numbers[] = {0, seq, 0, holder->life, holder->start};
    uint32_t halves[] = {holder->pid, holder->namespace, 1, 0, following, 0};
    char entry[K_ENTRY_BYTES];
    memcpy(entry, numbers, sizeof numbers);
    memcpy(entry + sizeof numbers, halves, sizeof halves);
    copy_in(q->base + row_of(q, number) * 8, entry, sizeof entry);
}

static int hold_across(Queue *q, const Holder *holder, Held *held, uint64_t at, uint64_t items);
static int ack_across(Queue *q, const Held *held, uint64_t at);

/* Hold the oldest record (locked; nothing is returned, too old, or pending). */
static int
hold_oldest(Queue *q, const Holder *holder, Held *held)
{
    uint64_t *u64 = q->u64;
    uint64_t popped = LOAD(&u64[K_W_POPPED]), head_word = K_W_HEAD_ODD - (popped & 1), items = in_log(q);
    if (!items)
        return EMPTY;
    uint64_t at = LOAD(&u64[K_W_HEAD + (popped & 1)]), lead = 0;
    uint64_t free_entry = LOAD(&u64[K_W_FREE_ENTRY]), fresh = LOAD(&u64[K_W_FRESH_ENTRY]), number = free_entry ? free_entry - 1 : fresh;
    if (number >= q->capacity || !is_place(q, at) || items > (q->map_size - q->data) >> 3 ||
        (q->addmode && skip_tombstones(q, &at) != GOT))
        return SLOW;
    uint64_t length = LOAD(&q->u32[at >> 2]) & (K_TOMBSTONE | K_RETURNED) ? 0 : plain_length(q, at);
    if (!length && !q->addmode)
        return hold_across(q, holder, held, at, items);
    if (!length || (q->addmode && (!(lead = lead_to(q, at)) || has_spare_buckets(q, items - 1))))
        return SLOW;
    uint64_t row = row_of(q, number), chunk = (at & ~q->mask) >> 3, flags = LOAD(&u64[K_W_FLAGS]);
    uint32_t following = free_entry ? LOAD(&q->u32[row * 2 + K_E_NEXT_FREE]) : 0;
    if (following > q->capacity)
        return SLOW;
    held->record = PyBytes_FromStringAndSize(q->base + at, (Py_ssize_t)length);
    if (!held->record)
        return FAILED;
    held->number = number, held->seq = popped + 1, held->turn = 1;
    fill_entry(q, number, holder, popped + 1, following);
    if (items > LOAD(&u64[K_W_HIGH_WATER]))
        STORE(&u64[K_W_HIGH_WATER], items);
    uint64_t pairs[] = {head_word,          at + length,
                        K_W_POPPED,         popped + 1,
                        free_entry ? K_W_FREE_ENTRY : K_W_FRESH_ENTRY, free_entry ? following : fresh + 1,
                        row,                at,
                        K_W_IN_FLIGHT,      LOAD(&u64[K_W_IN_FLIGHT]) + 1,
                        chunk + K_C_HELD,   LOAD(&u64[chunk + K_C_HELD]) + 1,
                        K_W_HELD_BYTES,     LOAD(&u64[K_W_HELD_BYTES]) + length,
                        K_W_FLAGS,          flags | K_FETCH_IN_FLIGHT | K_PENDING,
                        K_U32 + lead,       q->addmode ? LOAD(&q->u32[(at >> 2) + K_R_LINK]) : 0};
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2 - !q->addmode);
    close_list(q);
    STORE(&u64[K_W_FLAGS], flags | K_FETCH_IN_FLIGHT);
    count_wait(q, held->record);
    return GOT;
}

/* A held record is done (locked; nothing is pending). EMPTY: it is not this delivery any more. */
static int
ack(Queue *q, const Held *held)
{
    uint64_t *u64 = q->u64;
    if (held->number >= q->capacity)
        return SLOW;
    uint64_t row = row_of(q, held->number), half = row * 2, at = LOAD(&u64[row + K_E_AT]);
    if (!at || held->number >= LOAD(&u64[K_W_FRESH_ENTRY]) || LOAD(&u64[row + K_E_SEQ]) != held->seq ||
        LOAD(&q->u32[half + K_E_DELIVERIES]) != held->turn || LOAD(&q->u32[half + K_E_POSITION]))
        return EMPTY;
    if (!is_place(q, at))
        return SLOW; /* nothing is there that may be read */
    uint64_t length = plain_length(q, at), chunk = (at & ~q->mask) >> 3;
    uint64_t following = LOAD(&u64[K_W_FREE_ENTRY]), in_flight = LOAD(&u64[K_W_IN_FLIGHT]) - 1;
    uint64_t in_chunk = LOAD(&u64[chunk + K_C_HELD]) - 1, bytes = LOAD(&u64[K_W_HELD_BYTES]) - length;
    if ((!length && !q->addmode) || (!in_chunk && LOAD(&u64[chunk + K_C_DETACHED])))
        return ack_across(q, held, at);
    if (!length || following > q->capacity || (int64_t)in_flight < 0 || (int64_t)in_chunk < 0 || (int64_t)bytes < 0)
        return SLOW;
    uint64_t flags = LOAD(&u64[K_W_FLAGS]), after = in_flight ? flags : flags & ~K_FETCH_IN_FLIGHT;
    uint64_t pairs[] = {row + K_E_AT,     0,
                        K_W_FREE_ENTRY,   held->number + 1,
                        K_W_IN_FLIGHT,    in_flight,
                        chunk + K_C_HELD, in_chunk,
                        K_W_HELD_BYTES,   bytes,
                        K_W_FLAGS,        after | K_PENDING,
                        K_U32 + half + K_E_NEXT_FREE, following};
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2);
    close_list(q);
    STORE(&u64[K_W_FLAGS], after);
    return GOT;
}

#endif
