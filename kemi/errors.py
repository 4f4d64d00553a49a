# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong, as exceptions that say what to change.

Only misuse and broken things raise. Expected outcomes (the queue is empty, full, there is no memory) are values. Only
`mqueue_kemi.py` and `kemi/server/` turn either into Kamailio's integer codes.
"""

from __future__ import annotations

from kemi.text import one_line


class MqueueError(Exception):
    """Base of every error of this package. Its text is one line, whatever was in a name or a database's answer."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(MqueueError, ValueError):
    """A parameter is wrong. The text names the parameter, what was given, and what is allowed."""


class ItemError(MqueueError, TypeError):
    """A key or value is neither str nor bytes."""


class UnknownQueue(MqueueError, LookupError):
    """There is no such instance, or it has no queue of that name."""


class InstanceInUse(MqueueError, RuntimeError):
    """The instance belongs to another process that lives, or cannot be proved dead."""


class SegmentError(MqueueError, RuntimeError):
    """A shared-memory segment cannot be used: foreign, truncated, or damaged. It is left as it was."""


class SegmentMissing(SegmentError):
    """There is no segment of that name."""


class NotAllowed(SegmentError, PermissionError):
    """This user may not use the segment, or its user is not trusted. The text says whose it is, and what to change."""


class QueueClosed(SegmentError):
    """The server has ended the queue: nothing can be added, and nothing will come."""


class WrongThread(MqueueError, RuntimeError):
    """This process lets only its main thread use queues; the text says why, and what to do instead."""


class Unavailable(MqueueError):
    """Not now: the same call may work later. What to catch in order to try again."""


class Disconnected(Unavailable, ConnectionError):
    """An engine (a Redis or Valkey server) is not there, or gave no reply."""


class OutcomeUnknown(Disconnected):
    """A request was sent to an engine and no reply came: it was done, or not. An add may have to be repeated."""


class EngineError(MqueueError, RuntimeError):
    """An engine refuses: a key of another type, a setting, no memory."""


class ClientClosed(MqueueError, ValueError):
    """`close` was called on the queue in this process, as with a closed file."""


class CorruptedError(Exception):
    """Bytes of a segment contradict one another. Inside only; a queue makes a SegmentError of it, with its name."""


class StoreError(MqueueError, RuntimeError):
    """A database did not do what was asked; the transaction is undone. The text has database, table, reason, cure."""


class ItemUnfit(StoreError):
    """A table does not take an item; it may take others."""


class AllUndone(StoreError):
    """A table undid the whole transaction for the sake of one item: nothing was done.

    refused: numbers of items, counted from 0, for which it does that. Once more without these may succeed.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.refused: frozenset[int] = frozenset()


class DatabaseAway(StoreError):
    """There was no connection to the database, so that other tables need not be tried."""


class Contended(StoreError):
    """Another process took or changed the same rows first; nothing was done, and the same once more may succeed."""


class CommitUnknown(StoreError):
    """No answer came to a commit (the connection broke off): it cannot be known now whether all is done, or nothing."""


class NoMemory(MqueueError, MemoryError):
    """Shared memory could not be reserved: /dev/shm is full, or a limit is reached."""


class LockTimeout(Unavailable, TimeoutError):
    """The queue's lock could not be had within lock_timeout; nothing was done."""


class Reentered(LockTimeout):
    """The calling thread holds the queue's lock: this call came from a signal handler in the middle of another."""
