/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the kernel touches shared memory.
 *
 * A store is whole or not there whenever a process is killed, if it is one aligned number (docs/format.md). So every
 * number goes by LOAD and STORE, and nothing else writes but `copy_in`.
 *
 *   STORE   In program order: a kill falls between two instructions, so it is enough that the compiler moves nothing.
 *   COMMIT  As STORE, and a release: who reads it by LOAD_ACQUIRE without the lock sees what was stored before.
 *
 * With CRASH_POINTS (for tests alone) each store first asks a hook whether the process is still alive.
 */
#ifndef K_MEMORY_H
#define K_MEMORY_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#define BARRIER() __asm__ volatile("" ::: "memory")
#define LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define LIKELY(x) __builtin_expect(!!(x), 1)

#ifdef CRASH_POINTS
static PyObject *crash_hook;
static int crash_dead; /* the process was killed: nothing is stored any more */

static int
alive(void)
{
    if (crash_hook && !crash_dead) {
        PyObject *dead = PyObject_CallFunctionObjArgs(crash_hook, NULL);
        if (!dead)
            PyErr_WriteUnraisable(crash_hook);
        crash_dead = dead && PyObject_IsTrue(dead);
        Py_XDECREF(dead);
    }
    return !crash_dead;
}
#else
#define alive() 1
#endif

#define STORE(p, v) \
    do { \
        BARRIER(); \
        if (alive()) \
            __atomic_store_n((p), (v), __ATOMIC_RELAXED); \
        BARRIER(); \
    } while (0)
#define COMMIT(p, v) \
    do { \
        BARRIER(); \
        if (alive()) \
            __atomic_store_n((p), (v), __ATOMIC_RELEASE); \
        BARRIER(); \
    } while (0)

/* Ask for memory that the next call will read, or write to: its lines come while the script does something else. It is a
 * hint, which touches nothing, and may be wrong. (Without a barrier, gcc 12 takes a call of these for one without effect.)
 */
enum { MOST_AHEAD = 4096, CACHE_LINE = 64 };

static inline void
will_write(const char *from, uint64_t size)
{
    BARRIER();
    from = (const char *)(((uintptr_t)from + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1)); /* the line before is here */
    for (uint64_t at = 0; at < size && at < MOST_AHEAD; at += CACHE_LINE)
        __builtin_prefetch(from + at, 1);
}

static inline void
will_read(const char *from, uint64_t size)
{
    BARRIER();
    for (uint64_t at = 0; at < size && at < MOST_AHEAD; at += CACHE_LINE)
        __builtin_prefetch(from + at, 0);
}

/* Bytes to where nobody reads yet. They may be there in part when a process is killed, in any order. */
static inline void
copy_in(char *to, const char *from, size_t size)
{
#ifdef CRASH_POINTS
    size_t half = size > 8 ? size / 2 : 0;
    if (half && alive())
        memcpy(to + half, from + half, size - half);
    if (alive())
        memcpy(to, from, size);
#else
    memcpy(to, from, size);
    BARRIER();
#endif
}

#endif
