/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The optional kernel: what queues do most often, in C, on the same bytes and with the same lock as the Python code.
 *
 * Rules:
 *   - What is rare is Python's: growth, repair, limits that are met, corruption, a lock that is not free at once, a
 *     closed queue, arguments of other types. Then the kernel has changed nothing, and calls the Python function with
 *     the same arguments, whose results and errors are therefore the same.
 *   - While the lock is held the GIL is kept, and no Python code runs: no signal handler, no other thread.
 *   - Where only the main thread may run Python code with the lock held, another thread has what is wholly done here: it waits
 *     here for a lock that is not free, and puts off what can be put off; Python refuses it the rest (beside.py).
 *   - A cursor that memory holds is checked against the chunk map before anything is touched.
 *   - The orders of stores are those of docs/format.md; each function names its own.
 *
 * Only the limited API of Python 3.10 is used. One interpreter uses it: see PyInit.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "log/keyed.h"
#include "delivery/delivery_across.h"
#include "log/growth.h"
#include "log/plain.h"
#include "segment/queue.h"
#include "log/runs.h"
#include "calls/waiting.h"

#ifdef CRASH_POINTS
#define NAME "_kernel_crash"
#define INIT PyInit__kernel_crash
#else
#define NAME "_kernel"
#define INIT PyInit__kernel
#endif

/* Set once, by `install`, `set_results` and `set_tables`. */
static PyTypeObject *queue_type;
static PyObject *added, *kept, *closed, *full; /* AddResult */
static PyObject *queues, *fetched;    /* of this process: name -> Queue, name -> record or None */
static PyObject *one, *minus_one, *minus_two;
enum {
    ADD, POP, POP_WAIT, ADD_MANY, FETCH_MANY, RESERVE_SOME, SETTLE, GIVE_BACK_FORGOTTEN, GO_ON_WAITING, WAIT_NO_MORE,
    IS_FROM_HANDLER, CLIENT_ADD, CLIENT_FETCH, ITEM_KEY, ITEM_VALUE, MQ_ADD, MQ_FETCH, MQ_SIZE, GET_KEY, GET_KEY_E, GET_KEY_W, GET_VALUE, GET_VALUE_E, GET_VALUE_W,
    PYTHONS
};
static const char *const names[PYTHONS] = {
    "add",      "pop",        "pop_wait", "add_many", "fetch_many", "reserve_some", "settle",   "give_back_forgotten",
    "go_on_waiting", "wait_no_more", "is_from_handler", "client_add", "client_fetch", "item_key", "item_value", "mq_add", "mq_fetch",
    "mq_size",    "mqk_get",    "mqk_gete", "mqk_getw", "mqv_get",    "mqv_gete",     "mqv_getw"};
static PyObject *pythons[PYTHONS];    /* the functions in Python, which do whatever the kernel does not */
static unsigned long long done, left; /* calls that the kernel did, and left to them */

/* Put another object in a place. */
static void
put(PyObject **place, PyObject *object)
{
    PyObject *old = *place;
    Py_XINCREF(object);
    *place = object;
    Py_XDECREF(old);
}

#define FUNCTION(function) (PyCFunction)(void (*)(void))function
#define FAST (METH_FASTCALL | METH_KEYWORDS)

/* --- calling the Python code --------------------------------------------------------------------------------------- */

/* Call a function with the arguments of this call; self may be NULL. */
static PyObject *
call(PyObject *function, PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    Py_ssize_t first = self != NULL, named = keywords ? PyTuple_Size(keywords) : 0;
    PyObject *all = PyTuple_New(first + count), *by_name = named ? PyDict_New() : NULL, *result = NULL;
    if (!all || (named && !by_name))
        goto end;
    if (self)
        Py_INCREF(self), PyTuple_SetItem(all, 0, self);
    for (Py_ssize_t each = 0; each < count; each++)
        Py_INCREF(args[each]), PyTuple_SetItem(all, first + each, args[each]);
    for (Py_ssize_t each = 0; each < named; each++)
        if (PyDict_SetItem(by_name, PyTuple_GetItem(keywords, each), args[count + each]))
            goto end;
    result = PyObject_Call(function, all, by_name);
end:
    Py_XDECREF(all);
    Py_XDECREF(by_name);
    return result;
}

static PyObject *
leave(int which, PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    left++;
    if (!pythons[which]) {
        PyErr_Format(PyExc_RuntimeError, "the kernel was not given the function %s", names[which]);
        return NULL;
    }
    return call(pythons[which], self, args, count, keywords);
}

static inline PyObject *
give(PyObject *object)
{
    done++;
    Py_INCREF(object);
    return object;
}

/* --- add and pop --------------------------------------------------------------------------------------------------- */

/* The bytes of a key or value. 0: Python has to look at it. */
static inline int
text(PyObject *object, const char **bytes, size_t *size)
{
    Py_ssize_t length;
    if (PyUnicode_CheckExact(object)) {
        *bytes = PyUnicode_AsUTF8AndSize(object, &length);
        if (!*bytes) { /* a lone surrogate */
            PyErr_Clear();
            return 0;
        }
    }
    else if (PyBytes_CheckExact(object)) {
        *bytes = PyBytes_AsString(object);
        length = PyBytes_Size(object);
    }
    else
        return 0;
    *size = (size_t)length;
    return length <= MAX_TEXT;
}

/* Count what is refused (locked). */
static PyObject *
refuse(Queue *q, PyObject *why, uint64_t number)
{
    uint64_t *word = &q->u64[K_W_REFUSED + number - K_NO_MEMORY];
    STORE(word, LOAD(word) + 1);
    return why;
}

/* Why a thread beside the main one cannot add (locked); NULL: that is Python's to say. */
static PyObject *
refusal_of(Queue *q, const Record *record, uint64_t flags)
{
    if (flags & K_ADD_CLOSED)
        return refuse(q, closed, K_CLOSED);
    uint64_t limit = LOAD(&q->u64[K_W_BYTE_LIMIT]);
    return !q->addmode && limit && used_bytes(q) + record->step > limit ? refuse(q, full, K_FULL) : NULL;
}

/* GOT: `*outcome` says which. SLOW: nothing has changed. */
static int
add(Queue *q, PyObject *key, PyObject *value, PyObject **outcome)
{
    Record record;
    int is_kept = 0;
    if (!q->base || !text(key, &record.key, &record.key_length) || !text(value, &record.value, &record.value_length)) {
        lock_was = HAD, wants_memory = 0;
        return SLOW;
    }
    record.step = (record.key_length + record.value_length + K_RECORD_HEAD + 7) & ~UINT64_C(7);
    if (q->addmode)
        look_ahead(q, &record);
    record.added = q->addmode == 1 ? NOT_YET : wall_clock();
    record.is_padded = 0;
    pthread_mutex_t *mutex = take_lock(q);
    if (!mutex)
        return SLOW;
    uint64_t flags = LOAD(&q->u64[K_W_FLAGS]), called = 0;
    int result = SLOW;
    if (!(flags & ~(uint64_t)ADD_MAY)) {
        if (q->addmode)
            result = keyed_append(q, &record, flags, &is_kept);
        else if (!(flags & K_ADD_LIMITED) || !over_a_limit(q, record.step, 1))
            result = plain_append(q, &record);
        if (result == GOT && !is_kept && flags & K_ADD_WAITING)
            called = notify(q, 1);
    }
    *outcome = is_kept ? kept : added;
    if (result == SLOW && is_beside() && (*outcome = refusal_of(q, &record, flags)))
        result = GOT;
    free_lock(mutex);
    if (called)
        wake(q, called);
    return result;
}

static int
pop(Queue *q, PyObject **record)
{
    if (!q->base) {
        lock_was = HAD;
        return SLOW;
    }
    uint64_t *u64 = q->u64;
    /* Without the lock: what left is read before what was added, so equal means empty at the first look. */
    uint64_t removed = LOAD_ACQUIRE(&u64[K_W_POPPED]) + (q->addmode ? LOAD_ACQUIRE(&u64[K_W_BURIED]) : 0);
    if (LOAD_ACQUIRE(&u64[K_W_ADDED]) == removed && !has_more_to_do(q, LOAD(&u64[K_W_FLAGS])))
        return EMPTY;
    pthread_mutex_t *mutex = take_lock(q);
    if (!mutex)
        return SLOW;
    uint64_t flags = LOAD(&u64[K_W_FLAGS]);
    int result = has_more_to_do(q, flags) ? SLOW : q->addmode ? keyed_pop(q, record, flags) : plain_pop(q, record);
    free_lock(mutex);
    return result;
}

/* --- a queue ------------------------------------------------------------------------------------------------------- */

static PyObject *
Queue_add(Queue *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *outcome;
    if (count == 2 && !keywords && !PyErr_Occurred() && add(self, args[0], args[1], &outcome) == GOT)
        return give(outcome);
    return leave(ADD, (PyObject *)self, args, count, keywords);
}

static PyObject *
Queue_pop(Queue *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *record;
    if (count == 0 && !keywords && !PyErr_Occurred())
        switch (pop(self, &record)) {
        case GOT:
            done++;
            return record;
        case EMPTY:
            return give(Py_None);
        case FAILED:
            return NULL;
        }
    return leave(POP, (PyObject *)self, args, count, keywords);
}

/* Seconds to wait: 0 or more, infinity for None. -1: Python has to look. */
static double
seconds_of(PyObject *timeout)
{
    if (timeout == Py_None)
        return Py_HUGE_VAL;
    if (!PyFloat_CheckExact(timeout) && !PyLong_CheckExact(timeout))
        return -1;
    double seconds = PyFloat_AsDouble(timeout);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return -1;
    }
    return seconds >= 0 ? seconds : -1;
}

/* Go on with a wait in Python, counted as it is. */
static PyObject *
wait_on(Queue *self, const Waiter *waiter, double left)
{
    PyObject *seconds = PyFloat_FromDouble(left < 0 ? 0 : left);
    PyObject *key = waiter->counted ? PyLong_FromUnsignedLong(waiter->key) : Py_BuildValue("");
    PyObject *const arguments[] = {seconds, key, waiter->woken ? Py_True : Py_False};
    PyObject *found = seconds && key ? leave(GO_ON_WAITING, (PyObject *)self, arguments, 3, NULL) : NULL;
    Py_XDECREF(seconds);
    Py_XDECREF(key);
    return found;
}

/* Count a wait no more that an exception ended, which stays if no other one comes. The kernel has not got the lock for it. */
static void
wait_no_more(Queue *self, const Waiter *waiter)
{
    PyObject *type, *value, *trace, *key = NULL, *nothing = NULL;
    PyErr_Fetch(&type, &value, &trace);
    if ((key = PyLong_FromUnsignedLong(waiter->key))) {
        PyObject *const arguments[] = {key, waiter->woken ? Py_True : Py_False};
        nothing = leave(WAIT_NO_MORE, (PyObject *)self, arguments, 2, NULL);
    }
    Py_XDECREF(key);
    if (nothing)
        PyErr_Restore(type, value, trace);
    else
        Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(trace);
    Py_XDECREF(nothing);
}

static PyObject *
Queue_pop_wait(Queue *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *record;
    double seconds = count == 1 && !keywords && !PyErr_Occurred() ? seconds_of(args[0]) : -1, left;
    int result = seconds < 0 ? SLOW : pop(self, &record);
    if (result == EMPTY && seconds > 0) {
        Waiter waiter = {0, 0, 0};
        result = pop_wait(self, &waiter, seconds, &record, &left);
        if (result == SLOW)
            return wait_on(self, &waiter, left);
        if (waiter.counted)
            wait_no_more(self, &waiter);
    }
    switch (result) {
    case GOT:
        done++;
        return record;
    case EMPTY:
        return give(Py_None);
    case FAILED:
        return NULL;
    }
    return leave(POP_WAIT, (PyObject *)self, args, count, keywords);
}

/* Key or value of a record, as str; NULL where Python has to look, perhaps with an exception. */
static inline PyObject *
part_of(PyObject *record, int is_value)
{
    const char *bytes = PyBytes_AsString(record);
    uint64_t size = (uint64_t)PyBytes_Size(record);
    uint32_t numbers[3];
    if (size < K_RECORD_HEAD)
        return NULL;
    memcpy(numbers, bytes, sizeof numbers);
    uint64_t key = numbers[K_R_KEY], value = numbers[K_R_VALUE] & K_LENGTH_MASK;
    if (K_RECORD_HEAD + key + value > size)
        return NULL;
    const char *start = bytes + K_RECORD_HEAD + (is_value ? key : 0);
    PyObject *found = PyUnicode_DecodeUTF8(start, (Py_ssize_t)(is_value ? value : key), NULL);
    done += found != NULL;
    return found;
}

#include "calls/client.h"
#include "calls/functions.h"
#include "calls/batches.h"
#include "delivery/reserved.h"

/* --- the type of a queue ------------------------------------------------------------------------------------------- */

/* Why a segment is none that the kernel can use; NULL if it is. Everything read here is written once. */
static const char *
set_up(Queue *q, uint64_t window)
{
    const uint64_t *u64 = q->u64;
    q->data = u64[K_W_DATA], q->map_size = u64[K_W_MAP_SIZE], q->bits = u64[K_W_CHUNK_BITS];
    if (q->bits < K_MIN_CHUNK_BITS || q->bits > K_CHUNK_BITS || q->data >= q->map_size || q->map_size > window ||
        q->data & ((UINT64_C(1) << q->bits) - 1) || K_CHUNK_MAP_AT + ((q->map_size - q->data) >> q->bits) > q->data)
        return "its chunks do not fit";
    q->chunk = UINT64_C(1) << q->bits, q->mask = q->chunk - 1;
    q->most_free = u64[K_W_MOST_FREE];
    q->map = (const unsigned char *)q->base + K_CHUNK_MAP_AT;
    q->addmode = u64[K_W_ADDMODE];
    uint64_t number = u64[K_W_MUTEX];
    if (q->addmode > 2 || number >= K_MUTEX_COUNT)
        return "its addmode or its lock is none";
    q->entries = u64[K_W_ENTRIES_AT] >> 3, q->capacity = u64[K_W_CAPACITY];
    if (q->capacity > q->data / K_ENTRY_BYTES || q->entries * 8 + q->capacity * K_ENTRY_BYTES > q->data)
        return "its in-flight entries do not fit";
    q->mutex_kind = *mutex_word(q->base + K_MUTEX_AT + number * K_MUTEX_STRIDE, KIND_AT);
    if (!q->addmode)
        return NULL;
    q->directory = u64[K_W_DIRECTORY_AT] >> 3, q->per_chunk = u64[K_W_BUCKETS_PER_CHUNK], q->secret = u64[K_W_SECRET];
    if (!q->per_chunk || q->per_chunk & (q->per_chunk - 1) || q->per_chunk * 4 > q->chunk ||
        q->directory * 8 + K_DIRECTORY_ENTRIES * 8 > q->data)
        return "its key index does not fit";
    if (u64[K_W_HASH] != K_SIPHASH_1_3 && u64[K_W_HASH] != K_SIPHASH_2_4)
        return "its hash is not known";
    q->block_rounds = u64[K_W_HASH] == K_SIPHASH_1_3 ? 1 : 2;
    q->end_rounds = u64[K_W_HASH] == K_SIPHASH_1_3 ? 3 : 4;
    return NULL;
}

static PyObject *
Queue_attach(Queue *self, PyObject *args)
{
    PyObject *memory;
    unsigned long long address, window;
    if (!PyArg_ParseTuple(args, "OKK", &memory, &address, &window))
        return NULL;
    self->base = (char *)(uintptr_t)address;
    self->looks = MAX_LOOKS;
    self->u64 = (uint64_t *)self->base;
    self->u32 = (uint32_t *)self->base;
    const char *why = set_up(self, window);
    if (why) {
        self->base = NULL;
        return PyUnicode_FromString(why);
    }
    put(&self->memory, memory);
    Py_RETURN_NONE;
}

static PyObject *
Queue_grow(Queue *self, PyObject *args)
{
    unsigned long long table, line, lines, most;
    Source source;
    if (!PyArg_ParseTuple(args, "iKKKKKK", &source.fd, &source.device, &source.inode, &table, &line, &lines, &most))
        return NULL;
    source.table = (uint64_t *)(uintptr_t)table;
    source.line = line, source.lines = lines, source.most = most;
    pthread_mutex_t *mutex = self->base ? take_lock(self) : NULL;
    int result = SLOW;
    if (mutex) {
        result = grow(self, &source);
        if (result == EMPTY)
            refuse(self, NULL, K_NO_MEMORY);
        free_lock(mutex);
    }
    if (result == SLOW)
        Py_RETURN_NONE;
    return PyBool_FromLong(result == GOT);
}

static PyObject *
Queue_detach(Queue *self, PyObject *Py_UNUSED(ignored))
{
    self->base = NULL;
    put(&self->memory, NULL);
    Py_RETURN_NONE;
}

static void
Queue_dealloc(Queue *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    Py_CLEAR(self->memory);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef queue_methods[] = {
    {"kernel_attach", (PyCFunction)Queue_attach, METH_VARARGS,
     "kernel_attach($self, memory, address, window, /)\n--\n\nUse this memory. Returns why not, or None."},
    {"kernel_grow", (PyCFunction)Queue_grow, METH_VARARGS,
     "kernel_grow($self, descriptor, device, inode, table, line, lines, most, /)\n--\n\n"
     "Have a free chunk more, counted in this line of a quota's table (an address; 0: no quota). False: there is no memory, which is\n"
     "counted; None: the lock was not had, or the line is another one."},
    {"kernel_detach", (PyCFunction)Queue_detach, METH_NOARGS,
     "kernel_detach($self, /)\n--\n\nLeave everything to Python from now on."},
    {"add", FUNCTION(Queue_add), FAST,
     "add($self, key, value)\n--\n\n"
     "Append an item. What comes back is true when it is in the queue, and says why otherwise.\n\n"
     "Raises ItemError for other types, LockTimeout, SegmentError."},
    {"pop_wait", FUNCTION(Queue_pop_wait), FAST,
     "pop_wait($self, timeout)\n--\n\n`pop` that sleeps until there is an item, at most `timeout` seconds (None: for ever)."},
    {"pop", FUNCTION(Queue_pop), FAST,
     "pop($self)\n--\n\nTake the oldest item as its record (see `Item`); None if there is none."},
    {"add_many", FUNCTION(Queue_add_many), FAST,
     "add_many($self, pairs)\n--\n\nAppend items; what became of each, as `add` returns it, in order. One lock for BATCH of them."},
    {"fetch_many", FUNCTION(Queue_fetch_many), FAST,
     "fetch_many($self, count, timeout=0.0)\n--\n\nTake the oldest items, `count` at most; wait for the first one as `fetch` does."},
    {"reserve_some", FUNCTION(Queue_reserve_some), FAST,
     "reserve_some($self, count, timeout, keep)\n--\n\nReserve up to `count` items, as many as one lock is for; see `reservation.Reserver`."},
    {"settle", FUNCTION(Queue_settle), FAST,
     "settle($self, tokens, how)\n--\n\nSettle reserved items; see `hold.Source`. Returns how many were this process's until then."},
    {NULL, NULL, 0, NULL}};
static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "What a queue has of the kernel."},
    {Py_tp_methods, queue_methods},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, Queue_dealloc},
    {0, NULL}};
static PyType_Spec queue_spec = {"kemi.queue.kernel." NAME ".Queue", sizeof(Queue), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, queue_slots};


/* --- the module ---------------------------------------------------------------------------------------------------- */

static PyObject *
install(PyObject *Py_UNUSED(module), PyObject *functions)
{
    if (!PyDict_Check(functions)) {
        PyErr_SetString(PyExc_TypeError, "install() wants a dict");
        return NULL;
    }
    for (int which = 0; which < PYTHONS; which++) {
        PyObject *function = PyDict_GetItemString(functions, names[which]);
        if (function)
            put(&pythons[which], function);
    }
    Py_RETURN_NONE;
}

static PyObject *
set_results(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *new_added, *new_kept, *new_closed, *new_full, *new_rest, *new_errors;
    if (!PyArg_ParseTuple(args, "OOOOOO", &new_added, &new_kept, &new_closed, &new_full, &new_rest, &new_errors))
        return NULL;
    put(&added, new_added);
    put(&kept, new_kept);
    put(&closed, new_closed);
    put(&full, new_full);
    put(&breaks_off, new_errors);
    put(&rest_after, new_rest);
    Py_RETURN_NONE;
}

static PyObject *
set_tables(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *new_queues, *new_fetched;
    if (!PyArg_ParseTuple(args, "O!O!", &PyDict_Type, &new_queues, &PyDict_Type, &new_fetched))
        return NULL;
    put(&queues, new_queues);
    put(&fetched, new_fetched);
    Py_RETURN_NONE;
}

static PyObject *
calls(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("KK", done, left);
}

static PyObject *
sleeps(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_asleep);
}

static PyObject *
interpreter(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(PyInterpreterState_GetID(PyInterpreterState_Get()));
}

static PyObject *
get_lock_was(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    static const char *const words[] = {"", "busy", "broken"};
    return PyUnicode_FromString(words[lock_was]);
}

static PyObject *
get_wants_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(wants_memory);
}

static PyObject *
keep_to_thread(PyObject *Py_UNUSED(module), PyObject *number)
{
    unsigned long ident = PyLong_AsUnsignedLong(number);
    if (PyErr_Occurred())
        return NULL;
    only_thread = ident;
    Py_RETURN_NONE;
}

#ifdef CRASH_POINTS
static PyObject *
set_hook(PyObject *Py_UNUSED(module), PyObject *hook)
{
    crash_dead = 0;
    put(&crash_hook, hook == Py_None ? NULL : hook);
    Py_RETURN_NONE;
}
#endif

static PyMethodDef methods[] = {
    {"install", install, METH_O, "install(functions, /)\n--\n\nFunctions by name that do what the kernel does not."},
    {"set_results", set_results, METH_VARARGS, "set_results(added, kept, closed, full, rest_after, errors, /)\n--\n\nWhat adds return, and what becomes of the rest after which errors."},
    {"set_reserved", set_reserved, METH_VARARGS,
     "set_reserved(hold, item, delivery, done, partial, /)\n--\n\nThe types of what is reserved, and how it is settled here."},
    {"set_tables", set_tables, METH_VARARGS,
     "set_tables(queues, fetched, /)\n--\n\nWhat a script's functions work on, by the queue's name."},
    {"calls", calls, METH_NOARGS, "calls()\n--\n\nHow many calls the kernel did, and how many it left to Python."},
    {"sleeps", sleeps, METH_NOARGS, "sleeps()\n--\n\nIs the signal handler that calls this one that a sleep in here is interrupted for?"},
    {"interpreter", interpreter, METH_NOARGS, "interpreter()\n--\n\nNumber of the interpreter that calls this; the main one has 0."},
    {"keep_to_thread", keep_to_thread, METH_O, "keep_to_thread(ident, /)\n--\n\nLeave no Python code that takes a lock to other threads; 0: all of it."},
    {"wants_memory", get_wants_memory, METH_NOARGS,
     "wants_memory()\n--\n\nDid this thread's last call that had the lock want a free chunk, and found none?"},
    {"lock_was", get_lock_was, METH_NOARGS,
     "lock_was()\n--\n\nWhat the lock was that this thread's last call did not get: busy, broken, or nothing if it did."},
    {"set_item_type", set_item_type, METH_O, "set_item_type(type, /)\n--\n\nWhat a fetch returns; its key and value are read here from now on."},
    SCRIPT_FUNCTIONS,
#ifdef CRASH_POINTS
    {"set_hook", set_hook, METH_O, "set_hook(hook, /)\n--\n\nCall it before each store; what is true ends all stores."},
#endif
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME, "The optional kernel.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
INIT(void)
{
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError, "this is a subinterpreter");
        return NULL;
    }
    PyObject *made = PyModule_Create(&module);
    if (!made)
        return NULL;
    queue_type = (PyTypeObject *)PyType_FromSpec(&queue_spec);
    name_current = PyUnicode_InternFromString("_current"), name_queue = PyUnicode_InternFromString("queue");
    name_record = PyUnicode_InternFromString("_record"), name_deadline = PyUnicode_InternFromString("_deadline");
    PyObject *client_type = PyType_FromSpec(&client_spec);
    if (name_attributes() || !name_current || !name_queue || !name_record || !name_deadline || !client_type ||
        PyModule_AddObject(made, "Client", client_type))
        goto failed;
    one = PyLong_FromLong(1), minus_one = PyLong_FromLong(-1), minus_two = PyLong_FromLong(-2);
    if (!queue_type || !one || !minus_one || !minus_two || PyModule_AddIntConstant(made, "FORMAT", K_VERSION) ||
        PyModule_AddIntConstant(made, "REVISION", K_REVISION))
        goto failed;
    Py_INCREF(queue_type);
    if (PyModule_AddObject(made, "Queue", (PyObject *)queue_type)) {
        Py_DECREF(queue_type);
        goto failed;
    }
    return made;
failed:
    Py_DECREF(made);
    return NULL;
}
