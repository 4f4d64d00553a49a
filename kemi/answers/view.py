# SPDX-License-Identifier: GPL-2.0-or-later
"""How many questions were asked in an instance, and what became of them: read without lock or right to write."""

from __future__ import annotations

from typing import NamedTuple

from kemi.errors import SegmentMissing
from kemi.queue.catalog.view import look_at_answers
from kemi.queue.format import layout


class Totals(NamedTuple):
    """Since the server started. Each question ends once; `pending` are those that have not."""

    asked: int = 0
    pending: int = 0
    answered: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0  # the caller gave up: the route did not run
    gone: int = 0  # the transaction was not there any more
    withdrawn: int = 0  # tm did not suspend the transaction
    late: int = 0  # answers that nobody waited for any more, and second ones
    slow: int = 0  # routes that took longer than 50 ms
    processes: int = 0  # that serve answers


def totals(instance: str) -> Totals:
    """Of all answers processes together. Raises NotAllowed, SegmentError."""
    found = Totals()
    for number in range(layout.MAX_SHARDS):
        try:
            words = look_at_answers(instance, number)
        except SegmentMissing:
            break
        ends = words[layout.W_ASK_ANSWERED : layout.W_ASK_ANSWERED + layout.ASK_ENDS].tolist()
        asked = int(words[layout.W_ASKED])
        more = (
            asked,
            max(0, asked - sum(ends)),
            *ends,
            int(words[layout.W_ASK_LATE]),
            int(words[layout.W_ASK_SLOW]),
            int(bool(words[layout.W_ASK_SERVER])),
        )
        found = Totals(*map(sum, zip(found, more)))
    return found
