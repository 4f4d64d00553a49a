/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A keyed log over the end of a chunk, and over what is dead at its head (docs/format.md, order 3), as
 * kemi/queue/log/keyed.py and keyed_head.py have them. Each is an operation of its own, after which the log is as good as
 * before: whoever adds or fetches goes on, in here or in Python.
 */
#ifndef K_KEYED_ACROSS_H
#define K_KEYED_ACROSS_H

#include "across.h"

enum { MAX_CHUNKS_SKIPPED = 4 /* with one lock; more is Python's */ };

/* Does compaction work in this chunk, or is it to look at it next? */
static inline int
is_compacted(Queue *q, uint64_t chunk)
{
    const uint64_t *u64 = q->u64;
    return LOAD(&u64[K_W_TARGET]) == chunk || LOAD(&u64[K_W_SWEEP]) == chunk || (LOAD(&u64[K_W_SOURCE_AT]) & ~q->mask) == chunk;
}

/* HEAD goes past dead bytes up to a place in its chunk. */
static int
skip_within(Queue *q, uint64_t word, uint64_t start, uint64_t at)
{
    uint64_t *u64 = q->u64, flags = LOAD(&u64[K_W_FLAGS]), row = (start & ~q->mask) >> 3, length = at - start;
    uint64_t dead = LOAD(&u64[row + K_C_DEAD]), dead_in_all = LOAD(&u64[K_W_DEAD]);
    if (dead < length || dead_in_all < length)
        return SLOW;
    uint64_t pairs[] = {K_W_DEAD, dead_in_all - length, row + K_C_DEAD, dead - length, word, at};
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2);
    close_list(q);
    STORE(&u64[K_W_FLAGS], flags);
    return GOT;
}

/* HEAD leaves a chunk in which all is dead from there on: *head. */
static int
skip_chunk(Queue *q, uint64_t word, uint64_t start, uint64_t *head)
{
    uint64_t *u64 = q->u64, flags = LOAD(&u64[K_W_FLAGS]), chunk = start & ~q->mask, row = chunk >> 3;
    uint64_t length = chunk_end(q, start) - start, next = LOAD(&u64[row + K_C_NEXT]), dead_in_all = LOAD(&u64[K_W_DEAD]);
    uint64_t chunks = LOAD(&u64[K_W_CHUNKS]);
    int is_held = LOAD(&u64[row + K_C_HELD]) != 0;
    if (next & q->mask || next == chunk || !is_used(q, next) || dead_in_all < length || chunks < 2 ||
        (!is_held && has_enough_free(q, LOAD(&u64[K_W_FREE_CHUNKS]))) || is_compacted(q, chunk))
        return SLOW;
    *head = next + K_CHUNK_HEAD;
    uint64_t pairs[] = {K_W_DEAD, dead_in_all - length, K_W_CHUNKS, chunks - 1, word, *head, row + K_C_DETACHED, 1};
    uint64_t count = sizeof pairs / sizeof *pairs / 2;
    return is_held ? do_list(q, pairs, count, flags) : do_and_free(q, pairs, count - 1, &chunk, 1, flags);
}

/* Have HEAD at a record that is alive, of a log that has one: *head. SLOW: it may have come nearer. */
static int
skip_tombstones(Queue *q, uint64_t *head)
{
    uint64_t word = K_W_HEAD + (LOAD(&q->u64[K_W_POPPED]) & 1);
    *head = LOAD(&q->u64[word]);
    for (int chunks = 0; chunks < MAX_CHUNKS_SKIPPED && is_place(q, *head); chunks++) {
        uint64_t start = *head, at = start, step, end = chunk_end(q, start);
        while (at < end && (step = LOAD(&q->u32[at >> 2])) > K_TOMBSTONE && !(step & 7))
            at += step - K_TOMBSTONE;
        if (at == start)
            return GOT;
        *head = at;
        if (at > end || (at < end ? skip_within(q, word, start, at) : skip_chunk(q, word, start, head)) != GOT)
            return SLOW;
    }
    return SLOW;
}

/* A chunk that leaves the middle of the log, and those before and behind it. */
typedef struct {
    uint64_t chunk, before, behind;
} Unlinked;

/* Look what a chunk that is all dead lies between. SLOW: it has HEAD or TAIL, or it is Python's. */
static int
find_neighbours(Queue *q, uint64_t chunk, uint64_t tail_chunk, Unlinked *gone)
{
    const uint64_t *u64 = q->u64;
    uint64_t row = chunk >> 3, before = LOAD(&u64[row + K_C_PREVIOUS]), behind = LOAD(&u64[row + K_C_NEXT]);
    uint64_t head = LOAD(&u64[K_W_HEAD + (LOAD(&u64[K_W_POPPED]) & 1)]);
    if (chunk == tail_chunk || chunk == (head & ~q->mask) || before & q->mask || behind & q->mask || !is_used(q, before) ||
        !is_used(q, behind) || LOAD(&u64[(before >> 3) + K_C_NEXT]) != chunk || LOAD(&u64[(behind >> 3) + K_C_PREVIOUS]) != chunk ||
        LOAD(&u64[row + K_C_HELD]) || LOAD(&u64[K_W_CHUNKS]) < 3 || has_enough_free(q, LOAD(&u64[K_W_FREE_CHUNKS])) ||
        is_compacted(q, chunk))
        return SLOW;
    *gone = (Unlinked){chunk, before, behind};
    return GOT;
}

/* Have the chunk with HEAD and TAIL, in which nothing is alive or in flight, begin anew. */
static int
start_over(Queue *q, uint64_t chunk, uint64_t tail_word)
{
    uint64_t *u64 = q->u64, flags = LOAD(&u64[K_W_FLAGS]), row = chunk >> 3, start = chunk + K_CHUNK_HEAD;
    uint64_t dead = LOAD(&u64[row + K_C_DEAD]), dead_in_all = LOAD(&u64[K_W_DEAD]);
    if (dead_in_all < dead)
        return SLOW;
    uint64_t pairs[] = {K_W_DEAD,      dead_in_all - dead,
                        row + K_C_DEAD,  0,
                        row + K_C_FIRST, start,
                        K_W_HEAD + (LOAD(&u64[K_W_POPPED]) & 1), start,
                        tail_word,     start};
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2);
    close_list(q);
    STORE(&u64[K_W_FLAGS], flags);
    return GOT;
}

/* Have TAIL in a chunk with room for a record of so many bytes, for which it has none: *tail. */
static int
make_room(Queue *q, uint64_t items, uint64_t step, uint64_t *tail)
{
    uint64_t *u64 = q->u64, flags = LOAD(&u64[K_W_FLAGS]), tail_word = K_W_TAIL + (LOAD(&u64[K_W_ADDED]) & 1);
    uint64_t chunk = *tail & ~q->mask, row = chunk >> 3, left = chunk_end(q, *tail) - *tail, room = q->chunk - K_CHUNK_HEAD;
    uint64_t head_chunk = LOAD(&u64[K_W_HEAD + (LOAD(&u64[K_W_POPPED]) & 1)]) & ~q->mask;
    if (step >= room)
        return SLOW;
    if (!items && head_chunk == chunk && !LOAD(&u64[row + K_C_HELD])) {
        *tail = chunk + K_CHUNK_HEAD;
        return start_over(q, chunk, tail_word);
    }
    uint64_t fresh = find_free(q), dead = LOAD(&u64[row + K_C_DEAD]) + left, free_chunks = LOAD(&u64[K_W_FREE_CHUNKS]);
    if (!fresh || dead > room || (dead == room && head_chunk != chunk))
        return SLOW;
    uint64_t head[K_CHUNK_HEAD >> 3] = {[K_C_PREVIOUS] = chunk, [K_C_FIRST] = fresh + K_CHUNK_HEAD};
    uint64_t pairs[] = {row + K_C_NEXT, fresh,
                        K_W_CHUNKS,     LOAD(&u64[K_W_CHUNKS]) + 1,
                        K_W_DEAD,       LOAD(&u64[K_W_DEAD]) + left,
                        row + K_C_DEAD, dead,
                        tail_word,      fresh + K_CHUNK_HEAD};
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    STORE(mark_of(q, fresh), K_TAKEN);
    copy_in(q->base + fresh, (const char *)head, sizeof head);
    STORE(&q->u32[*tail >> 2], (uint32_t)(K_TOMBSTONE | left)); /* behind TAIL: nobody reads it yet */
    commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2);
    STORE(mark_of(q, fresh), K_USED);
    STORE(&u64[K_W_FREE_CHUNKS], free_chunks - 1);
    close_list(q);
    STORE(&u64[K_W_FLAGS], flags);
    *tail = fresh + K_CHUNK_HEAD;
    return GOT;
}

#endif
