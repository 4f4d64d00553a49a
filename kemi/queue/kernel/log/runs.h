/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several items with one lock, as kemi/queue/adding.py and kemi/queue/waiting.py do them: runs of records of a plain log that
 * lie within a chunk are one commit (docs/format.md, orders 1 to 3), those of a keyed log one each.
 */
#ifndef K_RUNS_H
#define K_RUNS_H

#include "keyed.h"
#include "plain.h"

enum { RUN = 256, RUN_BYTES = 1 << 20 }; /* for one lock: BATCH and BATCH_BYTES of kemi/queue/waiting.py */

/* Count an even number of records more, which leaves the same word of the cursor in use (order 3). */
static void
commit_even(Queue *q, uint64_t cursor, uint64_t offset, uint64_t counter, uint64_t number)
{
    uint64_t flags = LOAD(&q->u64[K_W_FLAGS]), pairs[] = {cursor, offset, counter, number};
    STORE(&q->u64[K_W_FLAGS], flags | K_PENDING);
    commit_list(q, pairs, 2);
    close_list(q);
    STORE(&q->u64[K_W_FLAGS], flags);
}

/* Append as many of these records as fit into the chunk of a plain log without limits. Returns how many. */
static uint64_t
plain_append_run(Queue *q, const Record *records, uint64_t most)
{
    uint64_t *u64 = q->u64, added = LOAD(&u64[K_W_ADDED]), odd = added & 1, count = 0;
    uint64_t tail = LOAD(&u64[K_W_TAIL + odd]), end = tail;
    if (!is_place(q, tail))
        return 0;
    while (count < most && end + records[count].step < chunk_end(q, tail)) {
        write_record(q, end, &records[count]);
        end += records[count++].step;
    }
    if (count & 1) {
        STORE(&u64[K_W_TAIL_ODD - odd], end);
        COMMIT(&u64[K_W_ADDED], added + count);
    }
    else if (count)
        commit_even(q, K_W_TAIL + odd, end, K_W_ADDED, added + count);
    return count;
}

/* Take up to `most` records of a plain log that lie within the chunk at HEAD. FAILED: there is no memory. */
static int
plain_pop_run(Queue *q, PyObject **records, uint64_t most, uint64_t *taken)
{
    uint64_t *u64 = q->u64, popped = LOAD(&u64[K_W_POPPED]), odd = popped & 1, items = LOAD(&u64[K_W_ADDED]) - popped;
    uint64_t at = LOAD(&u64[K_W_HEAD + odd]), count = 0, step = 0;
    if (!items)
        return EMPTY;
    if (!is_place(q, at) || items > (q->map_size - q->data) >> 3)
        return SLOW;
    if (items > LOAD(&u64[K_W_HIGH_WATER])) { /* so that the same words are stored as by the Python code */
        int result = plain_pop(q, records);
        *taken = result == GOT;
        return result;
    }
    while (count < most && count < items) {
        step = LOAD(&q->u32[at >> 2]); /* a tombstone's is too long */
        if (step < K_RECORD_HEAD || step & 7 || at + step >= chunk_end(q, at))
            break;
        if (!(records[count] = PyBytes_FromStringAndSize(q->base + at, (Py_ssize_t)step))) {
            while (count)
                Py_DECREF(records[--count]);
            return FAILED;
        }
        at += step, count++;
    }
    if (!count) { /* over the end of the chunk, or not for the kernel */
        int result = plain_pop(q, records);
        *taken = result == GOT;
        return result;
    }
    if (count & 1) {
        STORE(&u64[K_W_HEAD_ODD - odd], at);
        COMMIT(&u64[K_W_POPPED], popped + count);
    }
    else
        commit_even(q, K_W_HEAD + odd, at, K_W_POPPED, popped + count);
    measure(q, at - step, step, records[count - 1]);
    *taken = count;
    return GOT;
}

/* Append records with one lock. Returns how many are in the queue, *kept[n] saying that the key was there. */
static uint64_t
add_run(Queue *q, Record *records, uint64_t most, unsigned char *is_kept)
{
    pthread_mutex_t *mutex = take_lock(q);
    uint64_t count = 0, called = 0;
    if (!mutex)
        return 0;
    while (count < most) {
        uint64_t flags = LOAD(&q->u64[K_W_FLAGS]), more = 0;
        int kept = 0;
        if (flags & ~(uint64_t)ADD_MAY)
            break;
        if (!q->addmode && !(flags & K_ADD_LIMITED))
            more = plain_append_run(q, records + count, most - count);
        if (q->addmode)
            more = keyed_append(q, &records[count], flags, &kept) == GOT;
        else if (!more)
            more = !over_a_limit(q, records[count].step, 1) && plain_append(q, &records[count]) == GOT;
        if (!more)
            break;
        memset(is_kept + count, kept, more);
        if (!kept && flags & K_ADD_WAITING)
            called += notify(q, more);
        count += more;
    }
    free_lock(mutex);
    if (called)
        wake(q, called);
    return count;
}

/* Take up to `most` records with one lock. EMPTY: there is nothing more. SLOW: the next one is Python's. */
static int
pop_records(Queue *q, PyObject **records, uint64_t most, uint64_t *taken)
{
    uint64_t size = 0;
    *taken = 0;
    pthread_mutex_t *mutex = take_lock(q);
    if (!mutex)
        return SLOW;
    int result = GOT;
    while (result == GOT && *taken < most && size < RUN_BYTES) {
        uint64_t flags = LOAD(&q->u64[K_W_FLAGS]), more = 0;
        if (has_more_to_do(q, flags))
            result = SLOW;
        else if (q->addmode)
            more = (result = keyed_pop(q, &records[*taken], flags)) == GOT;
        else
            result = plain_pop_run(q, &records[*taken], most - *taken, &more);
        for (; more; more--)
            size += (uint64_t)PyBytes_Size(records[(*taken)++]);
    }
    free_lock(mutex);
    return result;
}

#endif
