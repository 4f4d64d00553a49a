/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process outside of the server calls: add and fetch of an attached queue, and an item's key and value.
 *
 * A thread beside the main one goes by the Python code to the queue's own functions, which wait and are refused once.
 */
#ifndef K_CLIENT_H
#define K_CLIENT_H

static PyObject *name_current, *name_queue, *name_record, *name_deadline;
static PyTypeObject *item_type; /* Item of kemi/queue/format/item.py, whose slots are set here */
static Py_ssize_t record_at, deadline_at; /* where they lie in an item */

/* The queue that a client has in use now, a new reference; NULL where Python has to look. */
static Queue *
queue_in_use(PyObject *client)
{
    if (PyErr_Occurred())
        return NULL;
    PyObject *current = PyObject_GetAttr(client, name_current);
    PyObject *queue = current ? PyObject_GetAttr(current, name_queue) : NULL;
    Py_XDECREF(current);
    if (queue && PyObject_TypeCheck(queue, queue_type))
        return (Queue *)queue;
    PyErr_Clear();
    Py_XDECREF(queue);
    return NULL;
}

static PyObject *
Client_add(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *outcome;
    int result = SLOW;
    Queue *queue = count == 2 && !keywords && !is_beside() ? queue_in_use(self) : NULL;
    if (queue) {
        result = add(queue, args[0], args[1], &outcome);
        Py_DECREF(queue);
    }
    if (result == GOT)
        return give(outcome);
    return leave(CLIENT_ADD, self, args, count, keywords);
}

static inline PyObject **
slot_of(PyObject *object, Py_ssize_t at)
{
    return (PyObject **)((char *)object + at);
}

/* An item of a record, which it takes. It has no deadline: where there is a max age, pop is Python's. */
static PyObject *
make_item(PyObject *record)
{
    PyObject *item = PyType_GenericAlloc(item_type, 0);
    if (!item) {
        Py_DECREF(record);
        return NULL;
    }
    Py_INCREF(Py_None);
    *slot_of(item, record_at) = record, *slot_of(item, deadline_at) = Py_None;
    return item;
}

static PyObject *
Client_fetch(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *record;
    int is_named = keywords && PyTuple_Size(keywords) == 1 && !count &&
                   !PyUnicode_CompareWithASCIIString(PyTuple_GetItem(keywords, 0), "timeout");
    int result = SLOW;
    if (item_type && !is_beside() && ((!keywords && count <= 1) || is_named)) {
        double seconds = count || is_named ? seconds_of(args[0]) : 0;
        Queue *queue = seconds >= 0 ? queue_in_use(self) : NULL;
        if (queue) {
            result = pop(queue, &record);
            Py_DECREF(queue);
        }
    }
    if (result == GOT) {
        done++;
        return make_item(record);
    }
    if (result == FAILED)
        return NULL;
    /* Also when there is nothing: then it is looked whether the server has ended. */
    return leave(CLIENT_FETCH, self, args, count, keywords);
}

/* Key or value of an item, of whose type the descriptor that calls this is. */
static inline PyObject *
item_part(PyObject *item, int is_value, int which)
{
    PyObject *record = *slot_of(item, record_at), *found = NULL;
    if (record && PyBytes_CheckExact(record))
        found = part_of(record, is_value);
    if (found)
        return found;
    PyErr_Clear();
    return leave(which, NULL, &item, 1, NULL);
}

static PyObject *
item_key(PyObject *item, void *Py_UNUSED(closure))
{
    return item_part(item, 0, ITEM_KEY);
}

static PyObject *
item_value(PyObject *item, void *Py_UNUSED(closure))
{
    return item_part(item, 1, ITEM_VALUE);
}

static PyGetSetDef item_parts[] = {
    {"key", item_key, NULL, "The key as str; bytes that are not UTF-8 as surrogates (`surrogateescape`).", NULL},
    {"value", item_value, NULL, "The value, as `key`.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

/* Where a type of Python code has a slot; 0: it has none. */
static Py_ssize_t
place_of_slot(PyTypeObject *type, const char *name)
{
    const PyMemberDef *member = PyType_GetSlot(type, Py_tp_members);
    for (; member && member->name; member++)
        if (!strcmp(member->name, name))
            return member->offset;
    return 0;
}

/* Set the type of items, and give it what reads their key and value. */
static PyObject *
set_item_type(PyObject *Py_UNUSED(module), PyObject *type)
{
    if (!PyType_Check(type) || !(record_at = place_of_slot((PyTypeObject *)type, "_record")) ||
        !(deadline_at = place_of_slot((PyTypeObject *)type, "_deadline"))) {
        PyErr_SetString(PyExc_TypeError, "set_item_type() wants a type with the slots _record and _deadline");
        return NULL;
    }
    for (PyGetSetDef *each = item_parts; each->name; each++) {
        PyObject *part = PyDescr_NewGetSet((PyTypeObject *)type, each);
        int failed = !part || PyObject_SetAttrString(type, each->name, part);
        Py_XDECREF(part);
        if (failed)
            return NULL;
    }
    Py_INCREF(type);
    item_type = (PyTypeObject *)type;
    Py_RETURN_NONE;
}

static PyMethodDef client_methods[] = {
    {"add", FUNCTION(Client_add), FAST,
     "add($self, key, value)\n--\n\n"
     "Add an item. A refused one is a false result: CLOSED while no server runs. Raises ItemError."},
    {"fetch", FUNCTION(Client_fetch), FAST,
     "fetch($self, timeout=0.0)\n--\n\n"
     "Take the oldest item; wait for one at most `timeout` seconds (None: for ever). None when there is none."},
    {NULL, NULL, 0, NULL}};
static PyType_Slot client_slots[] = {
    {Py_tp_doc, "What an attached queue has of the kernel."}, {Py_tp_methods, client_methods}, {0, NULL}};
static PyType_Spec client_spec = {"kemi.queue.kernel." NAME ".Client", sizeof(PyObject), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, client_slots};

#endif
