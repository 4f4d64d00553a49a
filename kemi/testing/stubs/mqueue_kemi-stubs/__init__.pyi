# Made from mqueue_kemi.py by docs/share/make.py (python3 -m docs.share.make).
"""Kamailio's mqueue for Python routing scripts: queues of key/value items in shared memory.

Names and integer codes only; the work is done in `kemi`. A routing script imports this module and ends with

    def mod_init():
        return mqueue_kemi.mod_init(Script())

or app_python3 loads this module itself for a native kamailio.cfg (see `mod_init`). A process outside of Kamailio calls
`attach`. Chapter numbers in the docstrings are those of the mqueue module's documentation.
"""
from __future__ import annotations

from typing import Any
from kemi.answers.results import Answer as Answer
from kemi.answers.results import AnswerStatus as AnswerStatus
from kemi.answers.results import AskResult as AskResult
from kemi.errors import ClientClosed as ClientClosed
from kemi.errors import ConfigError as ConfigError
from kemi.errors import Disconnected as Disconnected
from kemi.errors import EngineError as EngineError
from kemi.errors import InstanceInUse as InstanceInUse
from kemi.errors import ItemError as ItemError
from kemi.errors import LockTimeout as LockTimeout
from kemi.errors import MqueueError as MqueueError
from kemi.errors import NoMemory as NoMemory
from kemi.errors import NotAllowed as NotAllowed
from kemi.errors import OutcomeUnknown as OutcomeUnknown
from kemi.errors import QueueClosed as QueueClosed
from kemi.errors import Reentered as Reentered
from kemi.errors import SegmentError as SegmentError
from kemi.errors import SegmentMissing as SegmentMissing
from kemi.errors import Unavailable as Unavailable
from kemi.errors import UnknownQueue as UnknownQueue
from kemi.names import DEFAULT_INSTANCE as _DEFAULT_INSTANCE
from kemi.queue.client.api import QueueClient as QueueClient
from kemi.queue.client.api import QueueClient as Queue
from kemi.queue.client.attached import AttachedQueue as AttachedQueue
from kemi.queue.delivery.reservation import AsyncReservation as AsyncReservation
from kemi.queue.delivery.reservation import Reservation as Reservation
from kemi.queue.delivery.reserved import Batch as Batch
from kemi.queue.delivery.reserved import ReservedItem as ReservedItem
from kemi.queue.format.item import Data as Data
from kemi.queue.format.item import Item as Item
from kemi.queue.format.outcome import AddResult as AddResult
from kemi.queue.format.outcome import Refused as Refused
from kemi.queue.format.outcome import Stats as Stats
from kemi.queue.sync.stop import Event as Event
from kemi.queue.sync.stop import Stop as Stop
from kemi.worker.spec import Failure as Failure
from kemi.worker.spec import Reject as Reject
from kemi.worker.spec import Retry as Retry
from kemi.worker.spec import Tally as Tally
from kemi.worker.worker import Running as Running
from kemi.worker.worker import Worker as Worker
from kemi.worker.worker import arun as arun
from kemi.worker.worker import run as run
from kemi.worker.worker import worker as worker

__version__: str

__all__ = [
    "AddResult",
    "Answer",
    "AnswerStatus",
    "AskResult",
    "AsyncReservation",
    "AttachedQueue",
    "Batch",
    "ClientClosed",
    "ConfigError",
    "Data",
    "Disconnected",
    "EngineError",
    "Event",
    "Failure",
    "InstanceInUse",
    "Item",
    "ItemError",
    "LockTimeout",
    "MqueueError",
    "NoMemory",
    "NotAllowed",
    "OutcomeUnknown",
    "Queue",
    "QueueClient",
    "QueueClosed",
    "Reentered",
    "Refused",
    "Reject",
    "Reservation",
    "ReservedItem",
    "Retry",
    "Running",
    "SegmentError",
    "SegmentMissing",
    "Stats",
    "Stop",
    "Tally",
    "Unavailable",
    "UnknownQueue",
    "Worker",
    "aattach",
    "answer",
    "arun",
    "ask",
    "attach",
    "mod_init",
    "modparam",
    "mq_add",
    "mq_fetch",
    "mq_pv_free",
    "mq_size",
    "mqk_get",
    "mqk_gete",
    "mqk_getw",
    "mqv_get",
    "mqv_gete",
    "mqv_getw",
    "read_stats",
    "run",
    "worker",
]

def modparam(module: str, name: str, value: Any) -> int:
    """Set a parameter of the module (chapter 3), before `mod_init`. Returns 1.

    Raises ConfigError, which names the parameter and the text, so that Kamailio refuses to start.
    """

def mod_init(handler: Any=None) -> Any:
    """Make the queues and return the handler for app_python3: what a script's own `mod_init` ends with.

    Without a handler it is the one for a native kamailio.cfg, and the queues are defined in mqueue_kemi.cfg beside
    kamailio.cfg or beside this module, or in the file that MQUEUE_KEMI_CFG names. Called again at a reload it keeps
    every item, and takes new limits and new queues. Raises ConfigError, InstanceInUse, SegmentError, NoMemory.
    """

def mq_add(queue: str, key: str, value: str) -> int:
    """4.1: add an item. 1; -1, and the log says why not: of a refusal, once a minute with how many there were.

    When the queue's size is exceeded, the oldest item is removed.
    """

def mq_fetch(queue: str, timeout: float=0.0) -> int:
    """4.2: take the oldest item, which `mqk_get` and `mqv_get` then give. 1; -2 there is none; -1 it failed.

    timeout: seconds to wait for an item; 0 never waits.
    """

def mq_pv_free(queue: str) -> int:
    """4.3: forget what was fetched from the queue in this process. 1."""

def mq_size(queue: str) -> int:
    """4.4: how many items the queue has; -1 none; -2 there is no such queue."""

def mqk_get(queue: str) -> str | None:
    """Key of the item fetched last from the queue in this process: $mqk(queue). None if there is none."""

def mqk_gete(queue: str) -> str:
    """As `mqk_get`, with "" for none."""

def mqk_getw(queue: str) -> str:
    """As `mqk_get`, with "<null>" for none."""

def mqv_get(queue: str) -> str | None:
    """Value of the item fetched last from the queue in this process: $mqv(queue). None if there is none."""

def mqv_gete(queue: str) -> str:
    """As `mqv_get`, with "" for none."""

def mqv_getw(queue: str) -> str:
    """As `mqv_get`, with "<null>" for none."""

def ask(queue: str, key: str | bytes, value: str | bytes='', *, then: str, timeout: float, wait_for_worker: bool=False) -> AskResult:
    """Ask a worker outside, and let the SIP worker go on with other calls meanwhile.

    The transaction, made if need be, is suspended. `then(self, msg)` of the script runs in the answers process when the
    answer, a failure or the timeout (seconds, more than 0) comes; `answer` tells which. It does not run after a CANCEL.
    Neither blocks: nor must `then`, which has the transaction's reply lock.

    What comes back is true when that is so; otherwise the script replies itself, now. A question that no living process
    works for fails at once; with wait_for_worker it waits. Raises nothing; the log says what was wrong.
    """

def answer() -> Answer:
    """Return what a route that `ask` named runs for: an answer, a worker's failure, or that no answer came in time."""

def attach(queue: str, where: str=_DEFAULT_INSTANCE, *, wait: float | None=0.0, owner: str | int | None=None, lock_timeout: float=1.0, reattach: bool=True, instance: str | None=None) -> QueueClient:
    """Return a queue of a running Kamailio, for any process on its host that may read and write its segment.

    where: the server's instance; or the URL of an engine, redis://, rediss:// or unix://. instance: its old name.

    When the server is stopped and started again, waiting calls go on with its new queue; with reattach=False they raise
    QueueClosed. wait: seconds for the server and its queue to appear, None for ever. lock_timeout: finite seconds; of
    an engine, for one reply. What comes back may be pickled: the process that gets it attaches when it uses the queue
    first.

    owner: name or number of one more user whose queues are trusted, MQUEUE_KEMI_OWNER by default. Without it they are
    root's and this process's own; who is not root trusts the user "kamailio" too. The next server's queue must belong
    to the same user.

    Raises UnknownQueue when the instance has no such queue, NotAllowed when its user is not trusted or does not allow
    this process's, SegmentError when it cannot be used, Unavailable, ConfigError.
    """

async def aattach(queue: str, where: str=_DEFAULT_INSTANCE, *, wait: float | None=0.0, owner: str | int | None=None, lock_timeout: float=1.0, reattach: bool=True) -> QueueClient:
    """`attach` for asyncio: the event loop goes on while it waits for the server."""

def read_stats(where: str=_DEFAULT_INSTANCE) -> dict[str, Stats]:
    """Return the statistics of all queues of an instance, by name. Takes no lock, and needs no right but to read.

    Raises UnknownQueue when there is no such instance, NotAllowed, SegmentError.
    """
