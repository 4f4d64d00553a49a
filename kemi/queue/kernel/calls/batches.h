/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `add_many` and `fetch_many` of a queue. An item that is not for the kernel is left to them, alone. */
#ifndef K_BATCHES_H
#define K_BATCHES_H

#include "../log/runs.h"

static PyObject *rest_after, *breaks_off; /* set once, by `set_results` */

/* Is the exception that is set one that breaks a batch off, and not what a signal handler of the program raised? */
static int
is_break(void)
{
    PyObject *type, *value, *trace, *answer = NULL;
    if (!PyErr_ExceptionMatches(breaks_off))
        return 0;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (!trace || !PyException_SetTraceback(value, trace))
        answer = leave(IS_FROM_HANDLER, NULL, &value, 1, NULL);
    if (!answer) { /* another exception takes its place */
        Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(trace);
        return 0;
    }
    PyErr_Restore(type, value, trace);
    int is_own = answer == Py_False;
    Py_DECREF(answer);
    return is_own;
}

/* The exception that is set becomes the outcome of `count` items, if it breaks a batch off. -1: it stays. */
static int
end_with_outcomes(PyObject *outcomes, Py_ssize_t count)
{
    PyObject *type, *value, *trace;
    if (!is_break())
        return -1;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *number = PyLong_FromSsize_t(count);
    PyObject *rest = number ? PyObject_CallFunctionObjArgs(rest_after, value, number, NULL) : NULL;
    Py_ssize_t at = PyList_Size(outcomes);
    int failed = !rest || PyList_SetSlice(outcomes, at, at, rest);
    Py_XDECREF(rest), Py_XDECREF(number), Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(trace);
    return failed ? -1 : 0;
}

/* Append what a function of Python returns. -1 with an exception. */
static int
extend(PyObject *list, PyObject *more)
{
    Py_ssize_t at = PyList_Size(list);
    int failed = !more || PyList_SetSlice(list, at, at, more);
    Py_XDECREF(more);
    return failed ? -1 : 0;
}

/* As many pairs as one lock is for, as records. 0 where the first one is Python's. */
static Py_ssize_t
read_pairs(Queue *q, PyObject *pairs, Py_ssize_t first, Record *records)
{
    Py_ssize_t count = 0, all = PyTuple_Size(pairs);
    uint64_t size = 0;
    double added_at = wall_clock();
    for (; count < RUN && first + count < all && size < RUN_BYTES; count++) {
        PyObject *pair = PyTuple_GetItem(pairs, first + count);
        Record *record = &records[count];
        text(PyTuple_GetItem(pair, 0), &record->key, &record->key_length);
        text(PyTuple_GetItem(pair, 1), &record->value, &record->value_length);
        record->step = (record->key_length + record->value_length + K_RECORD_HEAD + 7) & ~UINT64_C(7);
        if (q->addmode)
            record->hash = key_hash(q, record->key, record->key_length);
        record->added = added_at;
        record->is_padded = 1;
        size += record->step;
    }
    return count;
}

/* Are these pairs of texts that the kernel can add? */
static int
are_texts(PyObject *pairs)
{
    const char *bytes;
    size_t size;
    for (Py_ssize_t each = PyTuple_Size(pairs); each--;) {
        PyObject *pair = PyTuple_GetItem(pairs, each);
        if (!PyTuple_CheckExact(pair) || PyTuple_Size(pair) != 2 || !text(PyTuple_GetItem(pair, 0), &bytes, &size) ||
            !text(PyTuple_GetItem(pair, 1), &bytes, &size))
            return 0;
    }
    return 1;
}

/* Leave one pair to Python; the list of what became of it. Beside the main thread to the queue's own `add`, which may wait. */
static PyObject *
add_alone(Queue *self, PyObject *pairs, Py_ssize_t at)
{
    PyObject *result = NULL, *pair = PyTuple_GetItem(pairs, at);
    if (is_beside()) {
        PyObject *const both[] = {PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1)};
        PyObject *outcome = Queue_add(self, both, 2, NULL);
        result = outcome ? Py_BuildValue("[O]", outcome) : NULL;
        Py_XDECREF(outcome);
        return result;
    }
    PyObject *one_pair = PyTuple_GetSlice(pairs, at, at + 1);
    result = one_pair ? leave(ADD_MANY, (PyObject *)self, &one_pair, 1, NULL) : NULL;
    Py_XDECREF(one_pair);
    return result;
}

/* Add pairs, what became of each to `outcomes`. -1 with an exception. */
static int
add_pairs(Queue *self, PyObject *pairs, PyObject *outcomes)
{
    Record records[RUN];
    unsigned char is_kept[RUN];
    for (Py_ssize_t first = 0, all = PyTuple_Size(pairs); first < all;) {
        Py_ssize_t wanted = read_pairs(self, pairs, first, records), count;
        count = self->base ? (Py_ssize_t)add_run(self, records, (uint64_t)wanted, is_kept) : 0;
        for (Py_ssize_t each = 0; each < count; each++)
            if (PyList_Append(outcomes, is_kept[each] ? kept : added))
                return -1;
        done += count > 0;
        first += count;
        if (count == wanted)
            continue;
        if (extend(outcomes, add_alone(self, pairs, first)))
            return first ? end_with_outcomes(outcomes, all - first) : -1;
        first++;
    }
    return 0;
}

static PyObject *
Queue_add_many(Queue *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *pairs = NULL, *outcomes;
    if (count == 1 && !keywords && self->base && rest_after && !PyErr_Occurred() &&
        (PyList_CheckExact(args[0]) || PyTuple_CheckExact(args[0])))
        pairs = PySequence_Tuple(args[0]);
    PyErr_Clear();
    if (!pairs || !are_texts(pairs)) {
        Py_XDECREF(pairs);
        return leave(ADD_MANY, (PyObject *)self, args, count, keywords);
    }
    outcomes = PyList_New(0);
    if (outcomes && add_pairs(self, pairs, outcomes))
        Py_CLEAR(outcomes);
    Py_DECREF(pairs);
    return outcomes;
}

/* Leave the next `count` items to Python, which waits for the first one. -1 with an exception. */
static int
fetch_rest(Queue *self, PyObject *items, Py_ssize_t count, PyObject *timeout)
{
    PyObject *number = PyLong_FromSsize_t(count), *const arguments[] = {number, timeout};
    int failed = extend(items, number ? leave(FETCH_MANY, (PyObject *)self, arguments, 2, NULL) : NULL);
    Py_XDECREF(number);
    /* What was taken is not lost, and the next call meets the error again. */
    if (failed && PyList_Size(items) && is_break()) {
        PyErr_Clear();
        failed = 0;
    }
    return failed;
}

/* Wait for an item, beside the main thread. */
static int
fetch_first(Queue *self, PyObject *timeout, PyObject *items)
{
    PyObject *record = Queue_pop_wait(self, &timeout, 1, NULL);
    if (!record || record == Py_None) {
        Py_XDECREF(record);
        return record ? EMPTY : FAILED;
    }
    PyObject *item = make_item(record);
    int failed = !item || PyList_Append(items, item);
    Py_XDECREF(item);
    return failed ? FAILED : GOT;
}

/* Take items. -1 with an exception. */
static int
fetch_items(Queue *self, Py_ssize_t wanted, PyObject *timeout, PyObject *items)
{
    PyObject *records[RUN], *no_time = NULL;
    int result = GOT, failed = 0;
    for (Py_ssize_t left = wanted; !failed && left > 0; left = wanted - PyList_Size(items)) {
        uint64_t taken = 0;
        result = self->base ? pop_records(self, records, (uint64_t)(left < RUN ? left : RUN), &taken) : SLOW;
        for (uint64_t each = 0; each < taken; each++) {
            PyObject *item = make_item(records[each]);
            failed |= !item || PyList_Append(items, item);
            Py_XDECREF(item);
        }
        done += taken > 0;
        if (failed || (result == FAILED && !PyList_Size(items)))
            return -1;
        if (result == GOT)
            continue;
        if (result != SLOW && PyList_Size(items))
            break;
        Py_ssize_t before = PyList_Size(items);
        if (result == EMPTY && is_beside()) { /* nothing came yet */
            result = seconds_of(timeout) > 0 ? fetch_first(self, timeout, items) : EMPTY;
            if (result == GOT)
                continue;
            return result == FAILED ? -1 : 0;
        }
        if (before && !no_time && !(no_time = PyFloat_FromDouble(0)))
            return -1;
        /* Where it is one item alone that is not for the kernel, the kernel goes on behind it. */
        int is_alone = before && self->base && LOAD(&self->u64[K_W_FLAGS]) < K_FETCH_FLAGS;
        failed = fetch_rest(self, items, is_alone ? 1 : wanted - before, before ? no_time : timeout);
        if (!is_alone || PyList_Size(items) == before)
            break;
    }
    if (result == FAILED)
        PyErr_Clear();
    Py_XDECREF(no_time);
    return failed;
}

static PyObject *
Queue_fetch_many(Queue *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *timeout = count == 2 ? args[1] : NULL, *nothing = NULL, *items = NULL;
    Py_ssize_t wanted = 0;
    if ((count == 1 || count == 2) && !keywords && self->base && item_type && breaks_off && !PyErr_Occurred() && PyLong_CheckExact(args[0]) && (!timeout || seconds_of(timeout) >= 0))
        wanted = PyLong_AsSsize_t(args[0]);
    PyErr_Clear();
    if (wanted <= 0)
        return leave(FETCH_MANY, (PyObject *)self, args, count, keywords);
    if ((nothing = PyFloat_FromDouble(0)) && (items = PyList_New(0)) &&
        fetch_items(self, wanted, timeout ? timeout : nothing, items))
        Py_CLEAR(items);
    Py_XDECREF(nothing);
    return items;
}

#endif
