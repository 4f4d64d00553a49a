/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Append and pop of a plain log (docs/format.md, orders 1 and 2), as kemi/queue/log/plain.py has them. */
#ifndef K_PLAIN_H
#define K_PLAIN_H

#include "across.h"

/* Texts longer than this are rare, and Python's to look after. */
enum { MAX_TEXT = 1 << 20 };
/* Of records that leave, one in so many bytes is measured (MEASURE_BYTES of kemi/queue/log/core.py). */
enum { MEASURE_BYTES = 1 << 16 };
/* The next record is asked for before it is read where they are so long; what follows a shorter one comes by itself. */
enum { LONG_RECORD = 256 };
/* An add may go on with these in FLAGS: none of them is about the end of the log, or it is looked at. */
enum { ADD_MAY = K_ADD_LIMITED | K_ADD_WAITING | K_FETCH_IN_FLIGHT | K_FETCH_AGING };

static inline double
wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)((int64_t)now.tv_sec * 1000000000 + now.tv_nsec) / 1e9; /* as time.time() */
}

static inline void
write_record(Queue *q, uint64_t at, const Record *record)
{
    char head[K_RECORD_HEAD];
    fill_head(head, record);
    copy_in(q->base + at, head, sizeof head);
    copy_in(q->base + at + K_RECORD_HEAD, record->key, record->key_length);
    copy_in(q->base + at + K_RECORD_HEAD + record->key_length, record->value, record->value_length);
    if (record->is_padded) {
        static const char zeros[8];
        uint64_t size = K_RECORD_HEAD + record->key_length + record->value_length;
        copy_in(q->base + at + size, zeros, record->step - size);
    }
}

/* Bytes of all records that are in the log or in flight (locked). */
static uint64_t
used_bytes(Queue *q)
{
    const uint64_t *u64 = q->u64;
    uint64_t tail = LOAD(&u64[K_W_TAIL + (LOAD(&u64[K_W_ADDED]) & 1)]);
    uint64_t head = LOAD(&u64[K_W_HEAD + (LOAD(&u64[K_W_POPPED]) & 1)]);
    return (LOAD(&u64[K_W_CHUNKS]) - 1) * (q->chunk - K_CHUNK_HEAD) + (tail & q->mask) - (head & q->mask) -
           LOAD(&u64[K_W_DEAD]) + LOAD(&u64[K_W_HELD_BYTES]);
}

/* Would an add of `step` bytes and `items` items more go over a limit (locked)? */
static int
over_a_limit(Queue *q, uint64_t step, uint64_t items)
{
    const uint64_t *u64 = q->u64;
    uint64_t limit = LOAD(&u64[K_W_SIZE_LIMIT]), bytes = LOAD(&u64[K_W_BYTE_LIMIT]);
    if (limit && size_of(q) + items > limit)
        return 1;
    return bytes && used_bytes(q) + step > bytes;
}

static inline int
plain_append(Queue *q, const Record *record)
{
    uint64_t *u64 = q->u64;
    uint64_t added = LOAD(&u64[K_W_ADDED]), odd = added & 1;
    uint64_t tail = LOAD(&u64[K_W_TAIL + odd]), end = tail + record->step;
    if (!LIKELY(is_place(q, tail)))
        return SLOW;
    if (!LIKELY(end < chunk_end(q, tail)))
        return append_across(q, record, tail, added);
    write_record(q, tail, record);
    STORE(&u64[K_W_TAIL_ODD - odd], end);
    COMMIT(&u64[K_W_ADDED], added + 1);
    will_write(q->base + end, record->step);
    return GOT;
}

/* Count how long a record that left at the head was in the queue, for all that left since the last one. */
static void
count_wait(Queue *q, PyObject *record)
{
    static const double bounds[] = K_WAITED_BOUNDS;
    uint64_t *u64 = q->u64, popped = LOAD(&u64[K_W_POPPED]), left = popped - LOAD(&u64[K_W_MEASURED]), bucket = 0;
    double added;
    if ((int64_t)left <= 0)
        return;
    memcpy(&added, PyBytes_AsString(record) + K_R_ADDED, sizeof added);
    double waited = wall_clock() - added;
    if (!(waited >= 0.0 && waited <= 1e9))
        waited = 0.0; /* the system's clock was set */
    while (bucket < sizeof bounds / sizeof *bounds && bounds[bucket] < waited)
        bucket++;
    STORE(&u64[K_W_WAITED + bucket], LOAD(&u64[K_W_WAITED + bucket]) + left);
    STORE(&u64[K_W_WAITED_SUM], LOAD(&u64[K_W_WAITED_SUM]) + (uint64_t)(waited * 1e6) * left);
    STORE(&u64[K_W_MEASURED], popped);
}

/* `count_wait`, now and then. */
static inline void
measure(Queue *q, uint64_t at, uint64_t step, PyObject *record)
{
    if (LIKELY(q->measured_low <= at && at + step < q->measured_end))
        return;
    q->measured_low = at, q->measured_end = at + (step < MEASURE_BYTES ? MEASURE_BYTES : step + 1);
    count_wait(q, record);
}

static inline int
plain_pop(Queue *q, PyObject **record)
{
    uint64_t *u64 = q->u64;
    uint64_t popped = LOAD(&u64[K_W_POPPED]), odd = popped & 1, items = LOAD(&u64[K_W_ADDED]) - popped;
    if (!items)
        return EMPTY;
    uint64_t head = LOAD(&u64[K_W_HEAD + odd]);
    if (!is_place(q, head) || items > (q->map_size - q->data) >> 3)
        return SLOW;
    uint64_t step = LOAD(&q->u32[head >> 2]), end = head + step; /* a tombstone's is too long */
    if (!LIKELY(end < chunk_end(q, head))) {
        int result = pop_across(q, record, head, popped, items);
        if (result == GOT)
            count_wait(q, *record);
        return result;
    }
    if (step < K_RECORD_HEAD || step & 7)
        return SLOW;
    *record = PyBytes_FromStringAndSize(q->base + head, (Py_ssize_t)step);
    if (!*record)
        return FAILED;
    if (items > LOAD(&u64[K_W_HIGH_WATER]))
        STORE(&u64[K_W_HIGH_WATER], items);
    STORE(&u64[K_W_HEAD_ODD - odd], end);
    COMMIT(&u64[K_W_POPPED], popped + 1);
    if (items > 1 && step >= LONG_RECORD)
        will_read(q->base + end, step);
    measure(q, head, step, *record);
    return GOT;
}

#endif
