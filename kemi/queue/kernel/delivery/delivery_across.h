/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holding a record of a plain log at the end of a chunk, and being done with a record when chunks become free by it (docs/format.md,
 * order 3), as `take` and `release` of kemi/queue/log/core.py have them.
 */
#ifndef K_DELIVERY_ACROSS_H
#define K_DELIVERY_ACROSS_H

#include "delivery.h"

/* Length of the record at a place, which may go on in the next chunk; 0 where Python has to look. */
static uint64_t
length_across(Queue *q, uint64_t at)
{
    uint64_t step = LOAD(&q->u32[at >> 2]) & ~(q->addmode ? K_RETURNED : 0);
    uint64_t key = LOAD(&q->u32[(at >> 2) + K_R_KEY]), value = LOAD(&q->u32[(at >> 2) + K_R_VALUE]);
    uint64_t whole = (K_RECORD_HEAD + key + (value & K_LENGTH_MASK) + 7) & ~UINT64_C(7);
    return value & K_QUESTION || step != whole ? 0 : step;
}

/* Hold the oldest record of a plain log, which begins behind the unused end of a chunk, or does not end within it (locked). */
static int
hold_across(Queue *q, const Holder *holder, Held *held, uint64_t at, uint64_t items)
{
    uint64_t *u64 = q->u64, chunk = at & ~q->mask, row = chunk >> 3, left = chunk_end(q, at) - at, next = LOAD(&u64[row + K_C_NEXT]);
    uint64_t popped = LOAD(&u64[K_W_POPPED]), chunks = LOAD(&u64[K_W_CHUNKS]), free_chunks = LOAD(&u64[K_W_FREE_CHUNKS]);
    if (next & q->mask || next == chunk || !is_used(q, next) || chunks < 2 || left < 8)
        return SLOW;
    int is_behind = (LOAD(&q->u32[at >> 2]) & K_TOMBSTONE) != 0;
    uint64_t start = is_behind ? next + K_CHUNK_HEAD : at, here = is_behind ? 0 : left;
    uint64_t length = is_behind || left >= K_RECORD_HEAD ? length_across(q, start) : 0, behind = length - here;
    uint64_t in_chunk = LOAD(&u64[row + K_C_HELD]) + !is_behind, free_entry = LOAD(&u64[K_W_FREE_ENTRY]), fresh = LOAD(&u64[K_W_FRESH_ENTRY]);
    uint64_t number = free_entry ? free_entry - 1 : fresh;
    if (length < K_RECORD_HEAD || length <= here || behind >= q->chunk - K_CHUNK_HEAD || number >= q->capacity ||
        (!in_chunk && has_enough_free(q, free_chunks)))
        return SLOW;
    uint64_t entry = row_of(q, number);
    uint32_t following = free_entry ? LOAD(&q->u32[entry * 2 + K_E_NEXT_FREE]) : 0;
    if (following > q->capacity)
        return SLOW;
    if (!(held->record = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length)))
        return FAILED;
    char *bytes = PyBytes_AsString(held->record);
    memcpy(bytes, q->base + start, here);
    memcpy(bytes + here, q->base + next + K_CHUNK_HEAD, behind);
    held->number = number, held->seq = popped + 1, held->turn = 1;
    fill_entry(q, number, holder, popped + 1, following);
    if (items > LOAD(&u64[K_W_HIGH_WATER]))
        STORE(&u64[K_W_HIGH_WATER], items);
    uint64_t flags = LOAD(&u64[K_W_FLAGS]);
    uint64_t pairs[] = {K_W_HEAD_ODD - (popped & 1), next + K_CHUNK_HEAD + behind,
                        K_W_POPPED,                 popped + 1,
                        free_entry ? K_W_FREE_ENTRY : K_W_FRESH_ENTRY, free_entry ? following : fresh + 1,
                        entry,                      start,
                        K_W_IN_FLIGHT,              LOAD(&u64[K_W_IN_FLIGHT]) + 1,
                        (next >> 3) + K_C_HELD,     LOAD(&u64[(next >> 3) + K_C_HELD]) + 1,
                        K_W_HELD_BYTES,             LOAD(&u64[K_W_HELD_BYTES]) + length,
                        K_W_CHUNKS,                 chunks - 1,
                        K_W_FLAGS,                  flags | K_FETCH_IN_FLIGHT | K_PENDING,
                        row + K_C_HELD,             in_chunk,
                        row + K_C_DETACHED,         1};
    uint64_t count = sizeof pairs / sizeof *pairs / 2;
    int result = in_chunk ? do_list(q, pairs, count, flags | K_FETCH_IN_FLIGHT)
                          : do_and_free(q, pairs, count - 2, &chunk, 1, flags | K_FETCH_IN_FLIGHT);
    count_wait(q, held->record);
    return result;
}

/* A held record of this entry is done, which lies in two chunks, or is the last one in flight of a chunk that HEAD has left (locked). */
static int
ack_across(Queue *q, const Held *held, uint64_t at)
{
    uint64_t *u64 = q->u64, row = row_of(q, held->number), half = row * 2, chunk = at & ~q->mask, left = chunk_end(q, at) - at;
    uint64_t length = left >= K_RECORD_HEAD ? length_across(q, at) : 0, next = length > left ? LOAD(&u64[(chunk >> 3) + K_C_NEXT]) : chunk;
    uint64_t following = LOAD(&u64[K_W_FREE_ENTRY]), in_flight = LOAD(&u64[K_W_IN_FLIGHT]) - 1, bytes = LOAD(&u64[K_W_HELD_BYTES]) - length;
    if (!length || next & q->mask || !is_used(q, next) || length >= left + q->chunk - K_CHUNK_HEAD || following > q->capacity ||
        (int64_t)in_flight < 0 || (int64_t)bytes < 0)
        return SLOW;
    uint64_t first = chunk >> 3, last = next >> 3, in_first = LOAD(&u64[first + K_C_HELD]) - 1, in_last = LOAD(&u64[last + K_C_HELD]) - 1;
    uint64_t gone[2], count = 0;
    if ((int64_t)in_first < 0 || (int64_t)in_last < 0)
        return SLOW;
    if (!in_first && LOAD(&u64[first + K_C_DETACHED]))
        gone[count++] = chunk;
    if (next != chunk && !in_last && LOAD(&u64[last + K_C_DETACHED]))
        gone[count++] = next;
    if (count && has_enough_free(q, LOAD(&u64[K_W_FREE_CHUNKS]) + count - 1))
        return SLOW;
    uint64_t flags = LOAD(&u64[K_W_FLAGS]), after = in_flight ? flags : flags & ~K_FETCH_IN_FLIGHT;
    uint64_t pairs[] = {row + K_E_AT,     0,
                        K_W_FREE_ENTRY,   held->number + 1,
                        K_W_IN_FLIGHT,    in_flight,
                        first + K_C_HELD, in_first,
                        last + K_C_HELD,  in_last,
                        K_W_HELD_BYTES,   bytes,
                        K_W_FLAGS,        after | K_PENDING,
                        K_U32 + half + K_E_NEXT_FREE, following};
    return do_and_free(q, pairs, sizeof pairs / sizeof *pairs / 2, gone, count, after);
}

#endif
