/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory for one chunk more, as kemi/queue/store/chunks.py and kemi/queue/catalog/memory.py reserve it: for an add beside the main
 * thread, before it is tried again. (Elsewhere Python does it, together with the add.)
 *
 * It is an operation of the journal (docs/format.md, order 3) that took a chunk and came to nothing: the chunk is free then.
 */
#ifndef K_GROWTH_H
#define K_GROWTH_H

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "across.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Where memory comes from, as Python found it just now. */
typedef struct {
    int fd;
    unsigned long long device, inode;
    uint64_t *table; /* of the instance's quota; NULL: there is none */
    uint64_t lines, line, most;
} Source;

/* May the file have so many bytes? Asking the system for more would end the process. Is it still the queue's file? */
static int
is_allowed(const Source *source, uint64_t end)
{
    struct stat file;
    struct rlimit limit;
    return !fstat(source->fd, &file) && file.st_dev == source->device && file.st_ino == source->inode &&
           !getrlimit(RLIMIT_FSIZE, &limit) && (limit.rlim_cur == RLIM_INFINITY || end <= limit.rlim_cur);
}

/* Count so many bytes for this queue (locked). 0: the quota does not allow it, and nothing has changed. */
static int
count_in_quota(const Source *source, uint64_t bytes)
{
    uint64_t sum = 0;
    if (!source->table)
        return 1;
    uint64_t *line = &source->table[source->line], before = LOAD(line);
    __atomic_store_n(line, before + bytes, __ATOMIC_RELAXED); /* first: of two queues at the limit one at least sees the other */
    for (uint64_t each = 0; each < source->lines; each++)
        sum += LOAD(&source->table[each]);
    if (sum > source->most)
        __atomic_store_n(line, before, __ATOMIC_RELAXED);
    return sum <= source->most;
}

/* Have a free chunk more (locked). EMPTY: there is no memory. */
static int
grow(Queue *q, const Source *source)
{
    uint64_t *u64 = q->u64, flags = LOAD(&u64[K_W_FLAGS]), free_chunks = LOAD(&u64[K_W_FREE_CHUNKS]), page = (uint64_t)getpagesize();
    const unsigned char *found = memchr(q->map, K_ABSENT, (q->map_size - q->data) >> q->bits);
    if (!found)
        return EMPTY;
    uint64_t chunk = q->data + ((uint64_t)(found - q->map) << q->bits);
    if (source->table && LOAD(&u64[K_W_QUOTA_ENTRY]) != source->line)
        return SLOW;
    if (!is_allowed(source, chunk + q->chunk) || !count_in_quota(source, q->chunk))
        return EMPTY;
    STORE(&u64[K_W_FLAGS], flags | K_PENDING);
    STORE(mark_of(q, chunk), K_UNSURE);
    int failed;
    while ((failed = posix_fallocate(source->fd, (off_t)chunk, (off_t)q->chunk)) == EINTR)
        ;
    STORE(mark_of(q, chunk), failed ? K_ABSENT : K_FREE);
    STORE(&u64[K_W_FREE_CHUNKS], free_chunks + !failed);
    STORE(&u64[K_W_FLAGS], flags);
    if (failed && source->table)
        __atomic_store_n(&source->table[source->line], LOAD(&source->table[source->line]) - q->chunk, __ATOMIC_RELAXED);
    if (failed)
        return EMPTY;
    /* What was never touched counts as not there (has_memory). */
    madvise(q->base + chunk, q->chunk, MADV_POPULATE_WRITE);
    if (page <= q->chunk)
        (void)*(volatile char *)(q->base + chunk + q->chunk - page);
    return GOT;
}

#endif
