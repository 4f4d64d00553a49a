/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking what is there, or sleeping until something is (docs/format.md, order 9), as kemi/queue/waiting.py and
 * kemi/queue/sync/eventcount.py have it, whose opening text says why no wake-up is lost.
 *
 * While it sleeps, the GIL is not held, and the queue may be closed in this process: the mapping stays until the end.
 */
#ifndef K_WAITING_H
#define K_WAITING_H

#include "../log/keyed.h"
#include "../log/plain.h"

enum { MAX_LOOKS = 256, MIN_LOOKS = 8 };
enum { FIRST_SLICE = SECOND / 1600, SLICE = 64 * FIRST_SLICE }; /* ns until it looks for signals again */

/* A wait under way. */
typedef struct {
    int counted; /* among PRESENT */
    int woken;   /* since it was counted among WAITERS */
    uint32_t key;
} Waiter;

/* Look for an item without the lock for a moment: while items come fast, a sleep would cost more than it saves. */
static void
look_a_moment(Queue *q)
{
    const uint64_t *u64 = q->u64;
    for (int look = 0; look < q->looks; look++) {
        uint64_t removed = LOAD_ACQUIRE(&u64[K_W_POPPED]) + LOAD_ACQUIRE(&u64[K_W_BURIED]);
        if (LOAD_ACQUIRE(&u64[K_W_ADDED]) != removed || has_more_to_do(q, LOAD(&u64[K_W_FLAGS]))) {
            q->looks = q->looks * 2 < MAX_LOOKS ? q->looks * 2 : MAX_LOOKS;
            return;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    q->looks = q->looks / 2 > MIN_LOOKS ? q->looks / 2 : MIN_LOOKS;
}

/* Be counted as a waiter (locked). */
static void
prepare_wait(Queue *q, Waiter *waiter)
{
    uint64_t *u64 = q->u64;
    uint32_t event = LOAD(&q->u32[K_W_EVENT * 2]);
    if (!waiter->counted || waiter->woken || waiter->key != event) {
        STORE(&u64[K_W_FLAGS], LOAD(&u64[K_W_FLAGS]) | K_ADD_WAITING);
        if (!waiter->counted)
            STORE(&u64[K_W_PRESENT], LOAD(&u64[K_W_PRESENT]) + 1);
        uint64_t waiters = LOAD(&u64[K_W_WAITERS]) + 1, present = LOAD(&u64[K_W_PRESENT]);
        STORE(&u64[K_W_WAITERS], waiters < present ? waiters : present);
    }
    waiter->counted = 1, waiter->woken = 0, waiter->key = event;
}

/* Wait no more (locked). Returns whether a notification may have been for this one. */
static int
cancel_wait(Queue *q, Waiter *waiter)
{
    uint64_t *u64 = q->u64;
    if (!waiter->counted)
        return 0;
    int meant = waiter->woken || LOAD(&q->u32[K_W_EVENT * 2]) != waiter->key;
    uint64_t waiters = LOAD(&u64[K_W_WAITERS]), present = LOAD(&u64[K_W_PRESENT]);
    present -= present > 0;
    waiters -= !meant && waiters > 0;
    waiters = waiters < present ? waiters : present;
    STORE(&u64[K_W_WAITERS], waiters);
    STORE(&u64[K_W_PRESENT], present);
    uint64_t flags = LOAD(&u64[K_W_FLAGS]);
    if (!waiters && flags & K_ADD_WAITING)
        STORE(&u64[K_W_FLAGS], flags & ~K_ADD_WAITING);
    waiter->counted = 0;
    return meant;
}

/* Take an item, or be counted as a waiter in the same moment. EMPTY: counted, if it is to sleep. record NULL: it stays. */
static int
pop_or_prepare(Queue *q, Waiter *waiter, int sleeps, PyObject **record)
{
    pthread_mutex_t *mutex = take_lock(q);
    if (!mutex)
        return SLOW;
    uint64_t flags = LOAD(&q->u64[K_W_FLAGS]), called = 0;
    int result = SLOW;
    if (!has_more_to_do(q, flags))
        result = !record ? in_log(q) ? GOT : EMPTY : q->addmode ? keyed_pop(q, record, flags) : plain_pop(q, record);
    if (result == EMPTY && flags & K_ADD_CLOSED)
        result = SLOW;
    if (result == EMPTY && sleeps)
        prepare_wait(q, waiter);
    /* Whether there is something for others is not known when it is left to Python. */
    else if (cancel_wait(q, waiter) && result != GOT && result != EMPTY)
        called = notify(q, 1);
    free_lock(mutex);
    if (called)
        wake(q, called);
    return result;
}

/* This thread sleeps, or runs the signal handlers that a sleep of it is interrupted for. */
static _Thread_local int is_asleep;

/* Sleep until the next notification, for so long at most. -1: a signal handler raised. */
static int
sleep_on(Queue *q, Waiter *waiter, int64_t until)
{
    uint32_t *word = &q->u32[K_W_EVENT * 2];
    int64_t left, slice = FIRST_SLICE; /* see sync/futex.py */
    while ((left = until - monotonic()) > 0 && !waiter->woken && q->base) {
        int64_t span = left < slice ? left : slice;
        slice = slice * 4 < SLICE ? slice * 4 : SLICE;
        struct timespec moment = {0, (long)span};
        int code, error;
        Py_BEGIN_ALLOW_THREADS
        code = (int)syscall(SYS_futex, word, FUTEX_WAIT, waiter->key, &moment, NULL, 0);
        error = errno;
        Py_END_ALLOW_THREADS
        waiter->woken = code == 0;
        is_asleep++;
        int raised = PyErr_CheckSignals();
        is_asleep--;
        if (raised)
            return -1;
        if (code && error != ETIMEDOUT)
            break;
    }
    return 0;
}

/* Pop, asleep for `seconds` at most while there is nothing. SLOW: *left are to be waited for by Python.
 *
 * When it returns, the waiter is counted only where the lock was not to be had: Python goes on from there. record NULL: what is
 * there stays.
 */
static int
pop_wait(Queue *q, Waiter *waiter, double seconds, PyObject **record, double *left)
{
    int64_t start = monotonic();
    int64_t deadline = seconds < 1e9 ? start + (int64_t)(seconds * SECOND) : INT64_MAX;
    int result = SLOW;
    PyObject *memory = q->memory; /* also when the queue is closed meanwhile */
    Py_XINCREF(memory);
    while (q->base) {
        int64_t now = monotonic();
        if (now < deadline)
            look_a_moment(q);
        result = pop_or_prepare(q, waiter, now < deadline, record);
        if (result != EMPTY || now >= deadline)
            break;
        result = SLOW;
        int64_t recheck = now + SECOND;
        if (sleep_on(q, waiter, deadline < recheck ? deadline : recheck)) {
            result = FAILED;
            break;
        }
    }
    *left = deadline == INT64_MAX ? seconds : (double)(deadline - monotonic()) / SECOND;
    int is_over = result == FAILED || is_beside();
    pthread_mutex_t *mutex = is_over && waiter->counted && q->base ? is_beside() ? try_lock(q) : take_lock(q) : NULL;
    if (mutex) {
        uint64_t called = cancel_wait(q, waiter) ? notify(q, 1) : 0;
        free_lock(mutex);
        if (called)
            wake(q, called);
    }
    Py_XDECREF(memory);
    return result;
}

#endif
