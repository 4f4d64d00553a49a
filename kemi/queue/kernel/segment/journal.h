/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The journal (docs/format.md, order 3), as kemi/queue/store/journal.py has it. PENDING in FLAGS is the caller's. */
#ifndef K_JOURNAL_H
#define K_JOURNAL_H

#include "queue.h"

/* Make a list of pairs (where, value) count, and do its stores. No bytes among them. */
static void
commit_list(Queue *q, const uint64_t *pairs, uint64_t count)
{
    uint64_t *list = &q->u64[K_JOURNAL_AT >> 3];
    for (uint64_t each = 0; each < 2 * count; each++)
        STORE(&list[each], pairs[each]);
    COMMIT(&q->u64[K_W_COMMIT], count);
    for (uint64_t each = 0; each < 2 * count; each += 2) {
        if (pairs[each] < K_U32)
            COMMIT(&q->u64[pairs[each]], pairs[each + 1]);
        else
            STORE(&q->u32[pairs[each] - K_U32], (uint32_t)pairs[each + 1]);
    }
}

/* All stores of the operation are done: the list does not count any more. */
static inline void
close_list(Queue *q)
{
    STORE(&q->u64[K_W_COMMIT], UINT64_C(0));
}

/* Do an operation of nothing but a list, and leave FLAGS so. */
static int
do_list(Queue *q, const uint64_t *pairs, uint64_t count, uint64_t after)
{
    STORE(&q->u64[K_W_FLAGS], LOAD(&q->u64[K_W_FLAGS]) | K_PENDING);
    commit_list(q, pairs, count);
    close_list(q);
    STORE(&q->u64[K_W_FLAGS], after);
    return GOT;
}

#endif
