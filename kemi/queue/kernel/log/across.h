/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Append and pop of a plain log over the end of a chunk (docs/format.md, order 3), as kemi/queue/log/plain.py and core.py have
 * them: into a chunk that is free, out of one whose memory is kept. What takes memory or gives it back is Python's.
 */
#ifndef K_ACROSS_H
#define K_ACROSS_H

#include <sys/mman.h>
#include <unistd.h>

#include "../segment/journal.h"
#include "record.h"

/* The mark of a chunk in the chunk map. */
static inline unsigned char *
mark_of(Queue *q, uint64_t chunk)
{
    return (unsigned char *)q->base + K_CHUNK_MAP_AT + ((chunk - q->data) >> q->bits);
}

/* Do an operation by which some chunks become free, and leave FLAGS so. */
static int
do_and_free(Queue *q, const uint64_t *pairs, uint64_t count, const uint64_t *gone, uint64_t chunks, uint64_t after)
{
    uint64_t *u64 = q->u64, free_chunks = LOAD(&u64[K_W_FREE_CHUNKS]);
    STORE(&u64[K_W_FLAGS], LOAD(&u64[K_W_FLAGS]) | K_PENDING);
    for (uint64_t each = 0; each < chunks; each++)
        STORE(mark_of(q, gone[each]), K_LEAVING);
    commit_list(q, pairs, count);
    for (uint64_t each = 0; each < chunks; each++)
        STORE(mark_of(q, gone[each]), K_FREE);
    STORE(&u64[K_W_FREE_CHUNKS], free_chunks + chunks);
    close_list(q);
    STORE(&u64[K_W_FLAGS], after);
    return GOT;
}

/* --- append ------------------------------------------------------------------------------------------------------- */

/* Does the file reach to the end of a free chunk? What is there in part only ends the process that touches it. */
static int
has_memory(Queue *q, uint64_t chunk)
{
    unsigned char there = 0;
    uint64_t page = (uint64_t)getpagesize();
    return page <= q->chunk && !mincore(q->base + chunk + q->chunk - page, page, &there) && there & 1;
}

/* A chunk that is free, and may be touched; 0 where Python has to look. */
static uint64_t
find_free(Queue *q)
{
    const unsigned char *mark = memchr(q->map, K_FREE, (q->map_size - q->data) >> q->bits);
    if (!mark || !LOAD(&q->u64[K_W_FREE_CHUNKS])) {
        wants_memory = !mark;
        return 0;
    }
    uint64_t chunk = q->data + ((uint64_t)(mark - q->map) << q->bits);
    return has_memory(q, chunk) ? chunk : 0;
}

/* The bytes of a record from one to another one of them. */
static void
write_part(Queue *q, uint64_t at, const Record *record, uint64_t from, uint64_t to)
{
    static const char zeros[8];
    char head[K_RECORD_HEAD];
    fill_head(head, record);
    uint64_t size = K_RECORD_HEAD + record->key_length + record->value_length;
    const char *parts[] = {head, record->key, record->value, zeros};
    uint64_t lengths[] = {K_RECORD_HEAD, record->key_length, record->value_length, record->is_padded ? record->step - size : 0};
    uint64_t start = 0;
    for (int each = 0; each < 4; start += lengths[each++]) {
        uint64_t first = from > start ? from : start, end = start + lengths[each] < to ? start + lengths[each] : to;
        if (first < end)
            copy_in(q->base + at + first - from, parts[each] + first - start, end - first);
    }
}

/* The log is empty, and nothing in its only chunk is in flight: it begins anew there. */
static int
append_anew(Queue *q, const Record *record, uint64_t chunk, uint64_t added)
{
    uint64_t *u64 = q->u64, flags = LOAD(&u64[K_W_FLAGS]), start = chunk + K_CHUNK_HEAD;
    uint64_t pairs[] = {K_W_HEAD + (LOAD(&u64[K_W_POPPED]) & 1), start,
                        K_W_TAIL_ODD - (added & 1),              start + record->step,
                        K_W_ADDED,                               added + 1};
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    write_part(q, start, record, 0, record->step);
    commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2);
    close_list(q);
    STORE(&u64[K_W_FLAGS], flags);
    return GOT;
}

/* Append a record that the chunk around TAIL has no room for. */
static int
append_across(Queue *q, const Record *record, uint64_t tail, uint64_t added)
{
    uint64_t *u64 = q->u64, popped = LOAD(&u64[K_W_POPPED]), chunk = tail & ~q->mask, room = q->chunk - K_CHUNK_HEAD;
    uint64_t left = chunk_end(q, tail) - tail, here = left >= K_RECORD_HEAD ? left : 0, behind = record->step - here;
    if (added == popped && (LOAD(&u64[K_W_HEAD + (popped & 1)]) & ~q->mask) == chunk && !LOAD(&u64[(chunk >> 3) + K_C_HELD]) &&
        record->step < room)
        return append_anew(q, record, chunk, added);
    uint64_t fresh = behind < room ? find_free(q) : 0;
    uint64_t free_chunks = LOAD(&u64[K_W_FREE_CHUNKS]), flags = LOAD(&u64[K_W_FLAGS]);
    if (!fresh)
        return SLOW;
    uint64_t pairs[] = {(chunk >> 3) + K_C_NEXT,    fresh,
                        K_W_CHUNKS,                 LOAD(&u64[K_W_CHUNKS]) + 1,
                        K_W_TAIL_ODD - (added & 1), fresh + K_CHUNK_HEAD + behind,
                        K_W_ADDED,                  added + 1};
    static const char head[K_CHUNK_HEAD];
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    STORE(mark_of(q, fresh), K_TAKEN);
    if (here)
        write_part(q, tail, record, 0, here);
    else
        STORE(&q->u32[tail >> 2], (uint32_t)(K_TOMBSTONE | left));
    copy_in(q->base + fresh, head, sizeof head);
    write_part(q, fresh + K_CHUNK_HEAD, record, here, record->step);
    commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2);
    STORE(mark_of(q, fresh), K_USED);
    STORE(&u64[K_W_FREE_CHUNKS], free_chunks - 1);
    close_list(q);
    STORE(&u64[K_W_FLAGS], flags);
    return GOT;
}

/* --- pop ---------------------------------------------------------------------------------------------------------- */

/* Pop the record at HEAD, which begins with the unused end of a chunk, or does not end within it. */
static int
pop_across(Queue *q, PyObject **record, uint64_t head, uint64_t popped, uint64_t items)
{
    uint64_t *u64 = q->u64, chunk = head & ~q->mask, row = chunk >> 3, left = chunk_end(q, head) - head;
    uint64_t next = LOAD(&u64[row + K_C_NEXT]), step = LOAD(&q->u32[head >> 2]), here = left;
    if (next & q->mask || next == chunk || !is_used(q, next))
        return SLOW;
    if (step & K_TOMBSTONE) {
        step = LOAD(&q->u32[(next + K_CHUNK_HEAD) >> 2]);
        here = 0;
    }
    int is_held = LOAD(&u64[row + K_C_HELD]) != 0; /* then it lives until what is in flight there is done */
    uint64_t behind = step - here, chunks = LOAD(&u64[K_W_CHUNKS]), free_chunks = LOAD(&u64[K_W_FREE_CHUNKS]);
    if (step < K_RECORD_HEAD || step & 7 || step < here || behind >= q->chunk - K_CHUNK_HEAD || (here && here < K_RECORD_HEAD) ||
        chunks < 2 || (!is_held && has_enough_free(q, free_chunks)))
        return SLOW;
    if (!(*record = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)step)))
        return FAILED;
    char *bytes = PyBytes_AsString(*record);
    memcpy(bytes, q->base + head, here);
    memcpy(bytes + here, q->base + next + K_CHUNK_HEAD, behind);
    uint64_t flags = LOAD(&u64[K_W_FLAGS]), high = LOAD(&u64[K_W_HIGH_WATER]);
    uint64_t pairs[] = {K_W_CHUNKS,                 chunks - 1,
                        K_W_HEAD_ODD - (popped & 1), next + K_CHUNK_HEAD + behind,
                        K_W_POPPED,                 popped + 1,
                        K_W_HIGH_WATER,             items > high ? items : high,
                        row + K_C_DETACHED,         1};
    uint64_t count = sizeof pairs / sizeof *pairs / 2;
    return is_held ? do_list(q, pairs, count, flags) : do_and_free(q, pairs, count - 1, &chunk, 1, flags);
}

#endif
