/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `reserve_some`, and `settle` of what is done, of kemi/queue/reserving.py: the usual case, in which nothing has to be looked
 * after before. What is held is claimed (kemi/queue/delivery/claims.py) before any Python code can run.
 */
#ifndef K_RESERVED_H
#define K_RESERVED_H

#include "delivery.h"

enum { LOCKFUL = 64 /* items reserved or settled with one lock: some 20 us */ };

/* Set once, by `set_reserved`. */
static PyTypeObject *hold_type, *reserved_type;
static PyObject *delivery_type, *done_settlement, *partial, *tuple_new;
enum { BEGIN, ME, MINE, LATE, NEXT_LOOK, HOLDING, SOURCE, TOKEN, ID, DELIVERIES, ASKED, PID, SETTLED, HOLD, POP_NAME, ATTRIBUTES };
static const char *const attribute_names[ATTRIBUTES] = {"begin",  "_me", "_mine",      "_late", "_next_look", "_holding", "source", "token",
                                                        "id",     "deliveries", "asked", "pid",   "settled",    "_hold",    "pop"};
static PyObject *attributes[ATTRIBUTES];

/* A number of a tuple; all bits for what is none. */
static uint64_t
number_at(PyObject *tuple, Py_ssize_t at)
{
    PyObject *number = PyTuple_GetItem(tuple, at);
    uint64_t value = number && PyLong_CheckExact(number) ? PyLong_AsUnsignedLongLong(number) : UINT64_MAX;
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return UINT64_MAX;
    }
    return value;
}

/* Who reserves, and what it has claimed (a new reference): of a Holding. NULL where Python has to look. */
static PyObject *
claims_of(PyObject *holding, Holder *holder)
{
    PyObject *me = PyObject_GetAttr(holding, attributes[ME]), *mine = NULL;
    if (me && PyTuple_Check(me) && PyTuple_Size(me) == 4) {
        uint64_t pid = number_at(me, 1), namespace = number_at(me, 3);
        holder->life = number_at(me, 0), holder->start = number_at(me, 2);
        holder->pid = (uint32_t)pid, holder->namespace = (uint32_t)namespace;
        if (holder->life != UINT64_MAX && holder->start != UINT64_MAX && pid <= UINT32_MAX && namespace <= UINT32_MAX)
            mine = PyObject_GetAttr(holding, attributes[MINE]);
    }
    Py_XDECREF(me);
    if (mine && PyDict_CheckExact(mine))
        return mine;
    PyErr_Clear();
    Py_XDECREF(mine);
    return NULL;
}

/* Is there nothing to look after before? As `Holding.is_quick`; beside the main thread others look after who has died. */
static int
is_quick(Queue *q, PyObject *holding, PyObject *mine)
{
    const uint64_t *u64 = q->u64;
    if (LOAD(&u64[K_W_FLAGS]) & (K_PENDING | K_FETCH_AGING | K_FETCH_MOVED) || LOAD(&u64[K_W_RETURNED]))
        return 0;
    PyObject *late = PyObject_GetAttr(holding, attributes[LATE]);
    int quick = late && PyList_CheckExact(late) && !PyList_Size(late);
    Py_XDECREF(late);
    if (quick && !is_beside() && LOAD(&u64[K_W_IN_FLIGHT]) > (uint64_t)PyDict_Size(mine)) {
        PyObject *look = PyObject_GetAttr(holding, attributes[NEXT_LOOK]);
        quick = look && PyFloat_CheckExact(look) && (double)monotonic() / SECOND < PyFloat_AsDouble(look);
        Py_XDECREF(look);
    }
    PyErr_Clear();
    return quick;
}

static int
set_attribute(PyObject *object, int which, PyObject *value)
{
    int failed = !value || PyObject_SetAttr(object, attributes[which], value);
    Py_XDECREF(value);
    return failed;
}

static inline PyObject *
owned(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

/* The item for what is held, claimed; NULL with an exception. It takes the record. No Python code runs in here. */
static PyObject *
make_reserved(Queue *q, const Held *held, PyObject *mine, PyObject *mine_pop)
{
    unsigned long long number = held->number, seq = held->seq;
    PyObject *numbers = Py_BuildValue("(KKii)", number, seq, 1, 1), *claim = NULL, *end = NULL;
    PyObject *token = numbers ? PyObject_CallFunctionObjArgs(tuple_new, delivery_type, numbers, NULL) : NULL;
    PyObject *item = PyType_GenericAlloc(reserved_type, 0), *hold = PyType_GenericAlloc(hold_type, 0);
    char id[40];
    snprintf(id, sizeof id, "%llx-%llx", (unsigned long long)LOAD(&q->u64[K_W_CREATED]), seq);
    int failed = !token || !item || !hold || PyObject_SetAttr(item, name_record, held->record) ||
                 PyObject_SetAttr(item, name_deadline, Py_None) || set_attribute(hold, SOURCE, owned((PyObject *)q)) ||
                 set_attribute(hold, TOKEN, owned(token)) || set_attribute(hold, ID, PyUnicode_FromString(id)) ||
                 set_attribute(hold, DELIVERIES, owned(one)) || set_attribute(hold, ASKED, owned(Py_False)) ||
                 set_attribute(hold, PID, PyLong_FromLong(getpid())) || set_attribute(hold, SETTLED, owned(Py_False)) ||
                 PyObject_SetAttr(item, attributes[HOLD], hold);
    if (!failed) {
        end = PyObject_CallFunctionObjArgs(partial, mine_pop, token, NULL);
        claim = end ? PyWeakref_NewRef(hold, end) : NULL;
        failed = !claim || PyDict_SetItem(mine, token, claim);
    }
    Py_XDECREF(end), Py_XDECREF(claim), Py_XDECREF(token), Py_XDECREF(numbers), Py_XDECREF(hold);
    if (failed)
        Py_CLEAR(item);
    return item;
}

/* Hold some of the oldest items with one lock. Returns how many; *result says why not one more.
 *
 * What is held and not claimed another thread of this process would give back: from the lock on no callback may let it run.
 */
static uint64_t
hold_some(Queue *q, const Holder *holder, Held *held, uint64_t most, int *result, int *collects)
{
    uint64_t count = 0;
    *result = SLOW;
    pthread_mutex_t *mutex = take_lock(q);
    *collects = PyGC_Disable();
    if (!mutex)
        return 0;
    if (!(LOAD(&q->u64[K_W_FLAGS]) & (K_PENDING | K_FETCH_AGING | K_FETCH_MOVED)) && !LOAD(&q->u64[K_W_RETURNED]))
        while (count < most && (*result = hold_oldest(q, holder, &held[count])) == GOT)
            count++;
    free_lock(mutex);
    return count;
}

/* Reserve, and claim, some of the oldest items; `items` gets them. -1: an exception. *result says why not one more. */
static int
reserve_items(Queue *q, const Holder *holder, PyObject *mine, uint64_t most, PyObject **items, uint64_t *count, int *result)
{
    Held held[LOCKFUL];
    int collects;
    PyObject *mine_pop = PyObject_GetAttr(mine, attributes[POP_NAME]);
    if (!mine_pop)
        return -1;
    *count = 0;
    uint64_t found = hold_some(q, holder, held, most, result, &collects);
    for (uint64_t each = 0; each < found; each++) {
        if (*count == each && (items[each] = make_reserved(q, &held[each], mine, mine_pop)))
            ++*count;
        Py_DECREF(held[each].record);
    }
    if (collects)
        PyGC_Enable();
    Py_DECREF(mine_pop);
    return *count < found || (!found && *result == FAILED) ? -1 : 0;
}

/* Nothing claims an item any more that could not be handed over. */
static void
drop_claim(PyObject *item, PyObject *mine)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *hold = PyObject_GetAttr(item, attributes[HOLD]), *token = hold ? PyObject_GetAttr(hold, attributes[TOKEN]) : NULL;
    if (!token || PyDict_DelItem(mine, token))
        PyErr_Clear();
    Py_XDECREF(hold), Py_XDECREF(token);
    PyErr_Restore(type, value, trace);
}

/* Give back what this process holds and nothing claims; the exception that is set stays. */
static void
give_back_forgotten(Queue *q)
{
    PyObject *type, *value, *trace, *self = (PyObject *)q, *nothing;
    PyErr_Fetch(&type, &value, &trace);
    nothing = leave(GIVE_BACK_FORGOTTEN, self, NULL, 0, NULL);
    if (!nothing)
        PyErr_Clear();
    Py_XDECREF(nothing);
    PyErr_Restore(type, value, trace);
}

/* `reserve_items` beside the main thread, where the wait for the first one is ours, too. */
static int
reserve_beside(Queue *q, const Holder *holder, PyObject *holding, PyObject *mine, uint64_t most, double seconds, PyObject **items,
               uint64_t *found, int *result)
{
    int64_t start = monotonic();
    while (q->base && is_quick(q, holding, mine)) {
        if (reserve_items(q, holder, mine, most, items, found, result) < 0)
            return -1;
        double passed = (double)(monotonic() - start) / SECOND, left;
        if (*found || *result != EMPTY || passed >= seconds)
            return 0;
        Waiter waiter = {0, 0, 0};
        *result = pop_wait(q, &waiter, seconds - passed, NULL, &left);
        if (*result != GOT)
            return *result == FAILED ? -1 : 0;
    }
    *result = SLOW;
    return 0;
}

static PyObject *
Queue_reserve_some(Queue *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *items[LOCKFUL], *holding = NULL, *mine = NULL;
    Holder holder;
    uint64_t most = 0, found = 0;
    int failed = 0, result = SLOW;
    lock_was = HAD;
    if (count == 3 && !keywords && self->base && hold_type && !PyErr_Occurred() && PyLong_CheckExact(args[0])) {
        long long wanted = PyLong_AsLongLong(args[0]);
        PyErr_Clear();
        most = wanted < 0 ? 0 : wanted < LOCKFUL ? (uint64_t)wanted : LOCKFUL;
    }
    if (!most)
        return leave(RESERVE_SOME, (PyObject *)self, args, count, keywords);
    if (!(holding = PyObject_GetAttr((PyObject *)self, attributes[HOLDING])))
        return NULL;
    PyObject *begun = PyObject_CallMethodObjArgs(holding, attributes[BEGIN], NULL);
    failed = !begun;
    Py_XDECREF(begun);
    if (!failed && self->base && is_beside()) {
        double seconds = seconds_of(args[1]);
        if (seconds >= 0 && (mine = claims_of(holding, &holder)))
            failed = reserve_beside(self, &holder, holding, mine, most, seconds, items, &found, &result) < 0;
    }
    else if (!failed && self->base && size_of(self) && (mine = claims_of(holding, &holder)) && is_quick(self, holding, mine))
        failed = reserve_items(self, &holder, mine, most, items, &found, &result) < 0;
    for (uint64_t each = 0; each < found; each++) {
        PyObject *kept = failed ? NULL : PyObject_CallFunctionObjArgs(args[2], items[each], NULL);
        if (!kept)
            drop_claim(items[each], mine);
        failed |= !kept;
        Py_XDECREF(kept);
        Py_DECREF(items[each]);
    }
    Py_XDECREF(mine);
    Py_DECREF(holding);
    if (failed) {
        give_back_forgotten(self);
        return NULL;
    }
    if (!found && is_beside() && result == EMPTY)
        return give(Py_None);
    if (!found)
        return leave(RESERVE_SOME, (PyObject *)self, args, count, keywords);
    done++;
    return PyLong_FromUnsignedLongLong(found);
}

/* Take what is told of a delivery from its tuple. 0 where Python has to look. */
static int
read_delivery(PyObject *token, Held *held)
{
    if ((PyObject *)Py_TYPE(token) != delivery_type || PyTuple_Size(token) != 4)
        return 0;
    held->number = number_at(token, 0), held->seq = number_at(token, 1), held->turn = number_at(token, 2);
    return held->number != UINT64_MAX && held->seq != UINT64_MAX && held->turn <= UINT32_MAX;
}

/* Be done with items with one lock, until one is Python's. Returns how many were looked at; *mine of them are done. */
static Py_ssize_t
ack_some(Queue *q, PyObject *tokens, Py_ssize_t first, PyObject *claims, long *mine)
{
    Held held[LOCKFUL];
    Py_ssize_t count = 0, all = PyList_Size(tokens), end;
    while (count < LOCKFUL && first + count < all && read_delivery(PyList_GetItem(tokens, first + count), &held[count]))
        count++;
    end = count, count = 0;
    pthread_mutex_t *mutex = end ? take_lock(q) : NULL;
    if (!mutex)
        return 0;
    if (!(LOAD(&q->u64[K_W_FLAGS]) & (K_PENDING | K_FETCH_MOVED)))
        for (int result = GOT; count < end && (result = ack(q, &held[count])) != SLOW; count++)
            *mine += result == GOT;
    free_lock(mutex);
    for (Py_ssize_t each = 0; each < count; each++) {
        PyObject *token = PyList_GetItem(tokens, first + each); /* where the lock was waited for, others could change the list */
        if (!token || PyDict_DelItem(claims, token))
            PyErr_Clear(); /* it was not claimed */
    }
    return count;
}

static PyObject *
Queue_settle(Queue *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *holding = NULL, *claims = NULL, *rest = NULL, *more = NULL;
    Py_ssize_t all, first = 0, some = 0;
    long mine = 0;
    Holder holder;
    lock_was = HAD;
    if (count != 2 || keywords || !self->base || !hold_type || PyErr_Occurred() ||
        args[1] != done_settlement || !PyList_CheckExact(args[0]) || !(all = PyList_Size(args[0])))
        return leave(SETTLE, (PyObject *)self, args, count, keywords);
    if ((holding = PyObject_GetAttr((PyObject *)self, attributes[HOLDING])))
        claims = claims_of(holding, &holder);
    Py_XDECREF(holding);
    PyErr_Clear();
    while (claims && self->base && (some = ack_some(self, args[0], first, claims, &mine)))
        first += some;
    Py_XDECREF(claims);
    if (first == all) {
        done++;
        return PyLong_FromLong(mine);
    }
    if (!first)
        return leave(SETTLE, (PyObject *)self, args, count, keywords);
    if ((rest = PyList_GetSlice(args[0], first, all))) {
        PyObject *const others[] = {rest, args[1]};
        more = leave(SETTLE, (PyObject *)self, others, 2, NULL);
        Py_DECREF(rest);
    }
    if (!more)
        return NULL;
    long others = PyLong_AsLong(more);
    Py_DECREF(more);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(mine + others);
}

static PyObject *
set_reserved(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *new_hold, *new_reserved, *new_delivery, *new_done, *new_partial;
    if (!PyArg_ParseTuple(args, "O!O!OOO", &PyType_Type, &new_hold, &PyType_Type, &new_reserved, &new_delivery, &new_done,
                          &new_partial))
        return NULL;
    put((PyObject **)&reserved_type, new_reserved);
    put(&delivery_type, new_delivery);
    put(&done_settlement, new_done);
    put(&partial, new_partial);
    put((PyObject **)&hold_type, new_hold);
    Py_RETURN_NONE;
}

/* Names that are looked up. -1 with an exception. */
static int
name_attributes(void)
{
    for (int which = 0; which < ATTRIBUTES; which++)
        if (!(attributes[which] = PyUnicode_InternFromString(attribute_names[which])))
            return -1;
    tuple_new = PyObject_GetAttrString((PyObject *)&PyTuple_Type, "__new__");
    return tuple_new ? 0 : -1;
}

#endif
