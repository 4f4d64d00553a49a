# SPDX-License-Identifier: GPL-2.0-or-later
"""The answers queues of an instance: one for each answers process, named apart from all queues that are defined.

What was asked of a transaction and what comes of it goes through the same one, chosen by the transaction: so one
process alone decides about it, and needs no table that it shares with others. ASKED is always in front of its answer.

The counters lie in the queue's header. ASKED is counted under the queue's lock; what became of questions, by the
answers process alone.
"""

from __future__ import annotations

import os
import time
from typing import final

from kemi.answers.tm import Identity
from kemi.errors import SegmentMissing
from kemi.instance import Instance
from kemi.owner import Owner, this_process
from kemi.queue.format import layout
from kemi.queue.format.outcome import AddResult
from kemi.queue.format.question import ASKED, FAILED, WITHDRAWN, Envelope, Name, Route, message_record, route_bytes
from kemi.queue.queue import Queue
from kemi.queue.sync.eventcount import RECHECK

MAX_SHARDS = layout.MAX_SHARDS
_NEAR = int((RECHECK + 0.2) * 1e9)  # ns
_LOOK = 1.0  # seconds between looks whether there is one more


@final
class Shard:
    """One answers queue, as this process uses it."""

    def __init__(self, number: int, queue: Queue) -> None:
        self.number = number
        self.queue = queue
        self._words = queue.segment.words
        self._created = int(self._words[layout.W_CREATED])

    # --- who asks

    def pending(self) -> int:
        """Questions that were asked and not ended yet."""
        words = self._words
        return max(
            0, words[layout.W_ASKED] - sum(words[layout.W_ASK_ANSWERED : layout.W_ASK_ANSWERED + layout.ASK_ENDS])
        )

    def enter(self, name: Name, deadline: int, asked: int, route: Route, room: int) -> AddResult:
        """Enter a question, if less than `room` are pending here."""
        words = self._words
        record = message_record(ASKED, name, route_bytes(route), deadline, asked)

        def accept() -> bool:
            if self.pending() >= room:
                return False
            words[layout.W_ASKED] += 1
            return True

        before = words[layout.W_ASKED]
        # The answer wakes the answers process, and takes this along; a deadline wants it sooner only if it is near.
        outcome = self.queue.add_record_if(record, accept, wakes=deadline - asked < _NEAR)
        if not outcome and outcome is not AddResult.FULL and words[layout.W_ASKED] > before:
            self.queue.count(layout.W_ASKED, -1)
        return outcome

    def withdraw(self, name: Name) -> None:
        """What was entered is not asked after all."""
        self.queue.add_record(message_record(WITHDRAWN, name, b""))

    def fail(self, name: Name, reason: str) -> None:
        """What was entered gets no answer."""
        self.queue.add_record(message_record(FAILED, name, reason.encode("utf-8", "backslashreplace")))

    def envelope(self, name: Name, deadline: int, asked: int) -> Envelope:
        """What a question of this shard carries."""
        return Envelope(self._created, name, deadline, asked, self.number)

    # --- who answers

    def claim(self) -> bool:
        """Let this process be its answers process. False if another one is, and may live."""
        words, me = self._words, this_process()

        def claim() -> bool:
            present = Owner(*words[layout.W_ASK_SERVER : layout.W_ASK_SERVER + 3])
            if present.pid and present != me and not present.is_dead():
                return False
            words[layout.W_ASK_SERVER : layout.W_ASK_SERVER + 3] = memoryview(_words(me)).cast("Q")
            return True

        return self.queue.handle.work(claim)

    def count(self, word: int) -> None:
        """Count what became of something, for the process that has claimed it."""
        self._words[word] += 1


def _words(owner: Owner) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in owner)


@final
class Shards:
    """All answers queues of an instance, as this process knows them."""

    def __init__(self, instance: Instance, *, made_when_asked: bool = False) -> None:
        """made_when_asked: the first one is made when it is asked for, as where no server is around."""
        self._instance = instance
        self.instance = instance.name
        self._made_when_asked = made_when_asked
        self._found: list[Shard] = []
        self._looked = 0.0

    def all(self) -> list[Shard]:
        """The answers queues that are there."""
        now = time.monotonic()
        if not self._found or now - self._looked > _LOOK:
            self._looked = now
            self._look()
            if not self._found and self._made_when_asked:
                self._make(0)
        return self._found

    def of(self, transaction: Identity) -> Shard:
        """The one for a transaction. There must be one."""
        shards = self._found
        return shards[transaction.hash_index % len(shards)]

    def make(self) -> Shard | None:
        """Make one more; None if there are MAX_SHARDS."""
        self._look()
        for number in range(len(self._found), MAX_SHARDS):
            if (made := self._make(number)) is not None:
                return made
        return None

    def _make(self, number: int) -> Shard | None:
        try:
            queue = self._instance.make_answers(number)
        except FileExistsError:
            return None  # another process was faster
        self._look()
        return Shard(number, queue)

    def claim(self) -> Shard | None:
        """One that this process alone serves; None if there can be no more."""
        self._look()
        for shard in self._found:
            if shard.claim():
                return shard
        while (shard_made := self.make()) is not None:
            if shard_made.claim():
                return shard_made
        return None

    def _look(self) -> None:
        found = list(self._found)
        while len(found) < MAX_SHARDS:
            try:
                queue = self._instance.attach_answers(len(found))
            except SegmentMissing:
                break
            found.append(Shard(len(found), queue))
        self._found = found


_serial = 0
_pid = 0


def new_name(transaction: Identity) -> Name:
    """A name for a question of this process."""
    global _serial, _pid  # noqa: PLW0603 - a number for each question, by process
    if _pid != (pid := os.getpid()):
        _pid, _serial = pid, 0
    _serial += 1
    return Name(transaction.hash_index, transaction.label, _pid << 32 | _serial & 0xFFFFFFFF)
