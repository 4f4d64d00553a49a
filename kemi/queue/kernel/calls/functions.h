/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The functions of a script, by the queue's name: mq_add, mq_fetch, mq_size, mqk_get and the like.
 *
 * What they do not do at once is done by the functions of mqueue_kemi.py, which also have all that is to be told.
 * So it is for a thread beside the main one, which the queue's own functions refuse, or not.
 * An exception that Kamailio left behind (kemi/server/left.py) is theirs, too.
 */
#ifndef K_FUNCTIONS_H
#define K_FUNCTIONS_H

/* The queue of a name, which stays alive in `queues`; NULL where Python has to look. */
static inline Queue *
find(PyObject *name)
{
    if (!PyUnicode_CheckExact(name) || PyErr_Occurred())
        return NULL;
    PyObject *found = PyDict_GetItemWithError(queues, name);
    if (!found) {
        PyErr_Clear();
        return NULL;
    }
    return PyObject_TypeCheck(found, queue_type) ? (Queue *)found : NULL;
}

static PyObject *
mq_add(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *outcome;
    Queue *q = count == 3 && !keywords && !is_beside() ? find(args[0]) : NULL;
    if (q && add(q, args[1], args[2], &outcome) == GOT)
        return give(one);
    return leave(MQ_ADD, NULL, args, count, keywords);
}

static PyObject *
mq_fetch(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    Queue *q = count == 1 && !keywords && !is_beside() ? find(args[0]) : NULL;
    PyObject *record;
    if (q)
        switch (pop(q, &record)) {
        case GOT: {
            int failed = PyDict_SetItem(fetched, args[0], record);
            Py_DECREF(record);
            return failed ? NULL : give(one);
        }
        case EMPTY:
            return PyDict_SetItem(fetched, args[0], Py_None) ? NULL : give(minus_two);
        case FAILED:
            PyErr_Clear(); /* no memory: Python says so */
        }
    return leave(MQ_FETCH, NULL, args, count, keywords);
}

static PyObject *
mq_size(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    Queue *q = count == 1 && !keywords ? find(args[0]) : NULL;
    /* What was given back for later does not count: Python looks at each of these. */
    if (q && q->base && !LOAD(&q->u64[K_W_RETURNED])) {
        uint64_t size = size_of(q);
        if (!size)
            return give(minus_one);
        done++;
        return PyLong_FromUnsignedLongLong(size);
    }
    return leave(MQ_SIZE, NULL, args, count, keywords);
}

/* A part of what was fetched last: str, or NULL without an exception where Python has to look. */
static inline PyObject *
part(PyObject *const *args, Py_ssize_t count, PyObject *keywords, int is_value)
{
    if (count != 1 || keywords || !PyUnicode_CheckExact(args[0]) || PyErr_Occurred())
        return NULL;
    PyObject *record = PyDict_GetItemWithError(fetched, args[0]);
    PyObject *found = record && PyBytes_CheckExact(record) ? part_of(record, is_value) : NULL;
    if (!found)
        PyErr_Clear();
    return found;
}

#define PART(function, which, is_value) \
    static PyObject *function(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count, PyObject *keywords) \
    { \
        PyObject *found = part(args, count, keywords, is_value); \
        return found ? found : leave(which, NULL, args, count, keywords); \
    }
PART(mqk_get, GET_KEY, 0)
PART(mqk_gete, GET_KEY_E, 0)
PART(mqk_getw, GET_KEY_W, 0)
PART(mqv_get, GET_VALUE, 1)
PART(mqv_gete, GET_VALUE_E, 1)
PART(mqv_getw, GET_VALUE_W, 1)

/* Their docstrings are those of the functions in Python: see `choice.install_functions`. */
#define SCRIPT_FUNCTIONS \
    {"mq_add", FUNCTION(mq_add), FAST, "mq_add(queue, key, value)\n--\n\n4.1: add an item. 1; -1 where the log says why not."}, \
    {"mq_fetch", FUNCTION(mq_fetch), FAST, "mq_fetch(queue, timeout=0.0)\n--\n\n4.2: take the oldest item. 1; -2 there is none; -1 it failed."}, \
    {"mq_size", FUNCTION(mq_size), FAST, "mq_size(queue)\n--\n\n4.4: how many items the queue has; -1 none; -2 there is no such queue."}, \
    {"mqk_get", FUNCTION(mqk_get), FAST, "mqk_get(queue)\n--\n\nKey of the item fetched last: $mqk(queue). None if there is none."}, \
    {"mqk_gete", FUNCTION(mqk_gete), FAST, "mqk_gete(queue)\n--\n\nAs `mqk_get`, with \"\" for none."}, \
    {"mqk_getw", FUNCTION(mqk_getw), FAST, "mqk_getw(queue)\n--\n\nAs `mqk_get`, with \"<null>\" for none."}, \
    {"mqv_get", FUNCTION(mqv_get), FAST, "mqv_get(queue)\n--\n\nValue of the item fetched last: $mqv(queue). None if there is none."}, \
    {"mqv_gete", FUNCTION(mqv_gete), FAST, "mqv_gete(queue)\n--\n\nAs `mqv_get`, with \"\" for none."}, \
    {"mqv_getw", FUNCTION(mqv_getw), FAST, "mqv_getw(queue)\n--\n\nAs `mqv_get`, with \"<null>\" for none."}

#endif
