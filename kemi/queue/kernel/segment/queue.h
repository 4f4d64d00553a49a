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
enum { SECOND = 1000000000 }; /* ns */

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

/* --- threads ---------------------------------------------------------------------------------------------------- */

/* Where the main thread keeps the interpreter while it sleeps, Python code with the lock held could stop everybody if another
 * thread ran it (kemi/queue/lock/onlymain.py). Such a thread has of a queue what is wholly done here, and waits for the rest.
 */
static unsigned long only_thread; /* 0: any */

static inline int
is_beside(void)
{
    return only_thread && PyThread_get_thread_ident() != only_thread;
}

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

/* Take the lock: the mutex, or NULL when it is not to be had at once. */
static inline pthread_mutex_t *
try_lock(Queue *q)
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

static inline int64_t
monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

enum { HAD, BUSY, BROKEN };
static _Thread_local int lock_was; /* why a thread beside the main one did not get the lock */
static _Thread_local int wants_memory; /* it had the lock, and found no free chunk */
enum { FIRST_PAUSE = 50000, PAUSE = 1000000 }; /* ns between two looks at a lock */

/* Is there something to be repaired before the queue can be used? Without the lock. */
static int
is_broken(const char *base)
{
    const uint64_t *u64 = (const uint64_t *)base;
    uint64_t number = LOAD(&u64[K_W_MUTEX]);
    const char *mutex = base + K_MUTEX_AT + number * K_MUTEX_STRIDE;
    return number >= K_MUTEX_COUNT || LOAD((const uint32_t *)(mutex + K_MUTEX_OWNER_AT)) == K_MUTEX_LOST ||
           LOAD(&u64[K_W_FLAGS]) & K_PENDING;
}

/* Has a living thread the lock? Without it. */
static int
is_held(const char *base)
{
    uint64_t number = LOAD((const uint64_t *)base + K_W_MUTEX) % K_MUTEX_COUNT;
    uint32_t holder = LOAD((const uint32_t *)(base + K_MUTEX_AT + number * K_MUTEX_STRIDE + K_MUTEX_HOLDER_AT));
    return holder && !(holder & FUTEX_OWNER_DIED);
}

/* Wait until the lock may be had, for so many ns at most. Returns how many it took. Without the GIL. */
static int64_t
wait_outside(const char *base, int64_t most)
{
    int64_t start = monotonic(), passed, pause = FIRST_PAUSE;
    do {
        struct timespec moment = {0, (long)pause};
        nanosleep(&moment, NULL);
        pause = pause * 2 < PAUSE ? pause * 2 : PAUSE;
        passed = monotonic() - start;
    } while (passed < most && (is_held(base) || is_broken(base)));
    return passed;
}

/* How long this queue's lock is waited for, ns. */
static int64_t
patience(Queue *q)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *mutex = PyObject_GetAttrString((PyObject *)q, "_mutex");
    PyObject *timeout = mutex ? PyObject_GetAttrString(mutex, "timeout") : NULL;
    double seconds = timeout && (PyFloat_Check(timeout) || PyLong_Check(timeout)) ? PyFloat_AsDouble(timeout) : 1;
    Py_XDECREF(timeout);
    Py_XDECREF(mutex);
    PyErr_Clear();
    PyErr_Restore(type, value, trace);
    return seconds > 0 ? seconds < 1e9 ? (int64_t)(seconds * SECOND) : INT64_MAX : 0;
}

/* Have the lock of a queue about which nothing is pending, or NULL: for a thread beside the main one. mutex: what a try gave.
 *
 * It waits without the lock and the GIL, and takes the lock with the GIL alone. That somebody may hold the GIL for long does not
 * count against the queue's lock timeout. What is broken, somebody else is to repair meanwhile.
 */
static pthread_mutex_t *
wait_for_lock(Queue *q, pthread_mutex_t *mutex)
{
    char *base = q->base;
    PyObject *memory = q->memory; /* also when the queue is closed meanwhile */
    lock_was = HAD, wants_memory = 0;
    if (LIKELY(mutex && !(LOAD(&q->u64[K_W_FLAGS]) & K_PENDING)))
        return mutex;
    if (mutex)
        free_lock(mutex);
    mutex = NULL;
    Py_XINCREF(memory);
    for (int64_t left = patience(q); !mutex && q->base == base; ) {
        if (left <= 0) {
            lock_was = is_held(base) ? BUSY : BROKEN;
            break;
        }
        Py_BEGIN_ALLOW_THREADS
        left -= wait_outside(base, left);
        Py_END_ALLOW_THREADS
        if (q->base == base && (mutex = try_lock(q)) && LOAD(&q->u64[K_W_FLAGS]) & K_PENDING) {
            free_lock(mutex);
            mutex = NULL;
        }
    }
    Py_XDECREF(memory);
    return mutex;
}

/* Take the lock, or NULL: Python's lock then waits, repairs, or refuses; a thread beside the main one has waited here. */
static inline pthread_mutex_t *
take_lock(Queue *q)
{
    pthread_mutex_t *mutex = try_lock(q);
    return LIKELY(!is_beside()) ? mutex : wait_for_lock(q, mutex);
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

/* Has a fetch more to do than to take what is at HEAD? Beside the main thread it does not look whether holders have died. */
static inline int
has_more_to_do(Queue *q, uint64_t flags)
{
    if (LIKELY(flags < K_FETCH_FLAGS))
        return 0;
    return !is_beside() || flags & (K_FETCH_AGING | K_FETCH_MOVED | K_PENDING) || LOAD(&q->u64[K_W_RETURNED]);
}

/* Are there so many free chunks that some give their memory back? Beside the main thread they wait for somebody else. */
static inline int
has_enough_free(Queue *q, uint64_t free_chunks)
{
    return free_chunks >= q->most_free && !is_beside();
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
