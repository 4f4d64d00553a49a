/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A queue as the kernel sees it, and its lock.
 *
 * Whatever the kernel cannot do at once, it does not do at all: it gives back what it took, having changed nothing, and
 * the Python code does the whole call. That is what SLOW means.
 */
#ifndef K_QUEUE_H
#define K_QUEUE_H

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"
#include "memory.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || __SIZEOF_POINTER__ != 8
#error "the kernel is for 64-bit little-endian machines; on others the Python code does it all"
#endif

#ifndef __GLIBC__
#error "the kernel knows the mutex of glibc; with another C library the Python code does it all"
#endif

enum { GOT, EMPTY, SLOW, FAILED }; /* FAILED: an exception is set, nothing has changed */

typedef struct {
    PyObject_HEAD
    char *base; /* NULL: not for the kernel, or not any more */
    uint64_t *u64;
    uint32_t *u32;
    const unsigned char *map; /* the chunk map */
    uint64_t data, map_size, chunk, mask, bits, addmode;
    uint64_t most_free; /* free chunks that are kept */
    uint64_t entries, capacity; /* of what is in flight: a word, and how many */
    uint64_t directory, per_chunk; /* of the key index: a word, and buckets */
    uint64_t secret;
    int block_rounds, end_rounds; /* of its hash */
    uint32_t mutex_kind;
    uint64_t measured_low, measured_end; /* no record that begins in between is measured */
    int looks; /* before a sleep, see look_a_moment */
    PyObject *memory; /* keeps the mapping */
} Queue;

/* --- the lock -------------------------------------------------------------------------------------------------- */

enum { SPINS = 200, KIND_AT = 16 };

static inline uint32_t *
mutex_word(char *mutex, uint64_t at)
{
    return (uint32_t *)(mutex + at);
}

/* Mark that something was broken off: whoever takes the lock next recovers (docs/format.md, Recovery). */
static void
leave_to_repair(Queue *q, pthread_mutex_t *mutex)
{
    STORE(&q->u64[K_W_FLAGS], LOAD(&q->u64[K_W_FLAGS]) | K_PENDING);
    if (alive() && !pthread_mutex_consistent(mutex))
        pthread_mutex_unlock(mutex);
}

/* Take the lock: the mutex, or NULL when it is not to be had at once. Python's lock then waits, repairs, or refuses. */
static inline pthread_mutex_t *
take_lock(Queue *q)
{
    uint64_t number = LOAD(&q->u64[K_W_MUTEX]);
    if (!LIKELY(number < K_MUTEX_COUNT))
        return NULL;
    char *at = q->base + K_MUTEX_AT + number * K_MUTEX_STRIDE;
    uint32_t *holder = mutex_word(at, K_MUTEX_HOLDER_AT);
    /* The C library leaves a lost mutex taken when it is tried, and aborts the process for some that are none. */
    if (!LIKELY(LOAD(mutex_word(at, KIND_AT)) == q->mutex_kind) || LOAD(mutex_word(at, K_MUTEX_OWNER_AT)) == K_MUTEX_LOST)
        return NULL;
    pthread_mutex_t *mutex = (pthread_mutex_t *)at;
    int code = pthread_mutex_trylock(mutex);
    for (int i = 0; code == EBUSY && i < SPINS; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
        /* A look leaves the word where it is; a try takes it from the processor that will write it next. */
        if (!LOAD(holder))
            code = pthread_mutex_trylock(mutex);
    }
    if (LIKELY(!code))
        return mutex;
    if (code == EOWNERDEAD)
        leave_to_repair(q, mutex);
    return NULL;
}

static inline void
free_lock(pthread_mutex_t *mutex)
{
    BARRIER();
    if (alive())
        pthread_mutex_unlock(mutex);
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

/* Is this the offset of a chunk in use? */
static inline int
is_used(Queue *q, uint64_t chunk)
{
    return chunk >= q->data && chunk < q->map_size && LOAD(&q->map[(chunk - q->data) >> q->bits]) == K_USED;
}

/* Can a record begin here, in a chunk in use? */
static inline int
is_place(Queue *q, uint64_t at)
{
    return !(at & 7) && (at & q->mask) >= K_CHUNK_HEAD && is_used(q, at & ~q->mask);
}

static inline uint64_t
chunk_end(Queue *q, uint64_t at)
{
    return (at | q->mask) + 1;
}

/* Items that nobody holds. What left is read before what was added, so none that is there all the time is missed. */
static inline uint64_t
size_of(Queue *q)
{
    uint64_t removed = LOAD_ACQUIRE(&q->u64[K_W_POPPED]) + LOAD_ACQUIRE(&q->u64[K_W_BURIED]);
    uint64_t items = LOAD_ACQUIRE(&q->u64[K_W_ADDED]) - removed + LOAD(&q->u64[K_W_RETURNED]);
    uint64_t most = q->map_size - q->data;
    return (int64_t)items < 0 ? 0 : items < most ? items : most;
}

/* --- waiters (docs/format.md, order 9) --------------------------------------------------------------------------- */

/* Prepare to wake up to `count` waiters (locked). Returns how many: after the lock, call `wake` with it. */
static uint64_t
notify(Queue *q, uint64_t count)
{
    uint64_t waiters = LOAD(&q->u64[K_W_WAITERS]);
    uint64_t called = count < waiters ? count : waiters;
    if (called) {
        uint32_t *event = &q->u32[K_W_EVENT * 2];
        STORE(event, LOAD(event) + 1);
        STORE(&q->u64[K_W_WAITERS], waiters - called);
    }
    uint64_t flags = LOAD(&q->u64[K_W_FLAGS]);
    if (waiters <= called && flags & K_ADD_WAITING)
        STORE(&q->u64[K_W_FLAGS], flags & ~K_ADD_WAITING);
    return called;
}

static void
wake(Queue *q, uint64_t count)
{
    syscall(SYS_futex, &q->u32[K_W_EVENT * 2], FUTEX_WAKE, (int)count, NULL, NULL, 0);
}

#endif
