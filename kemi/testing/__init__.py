# SPDX-License-Identifier: GPL-2.0-or-later
"""Write and test routing scripts without Kamailio: a typed KSR (KSR-stubs), a fake one, and a runner for whole scripts.

Never imported by the rest of the package.
"""

from kemi.testing.blocking import BlockingRoute
from kemi.testing.errors import FakeError, NotCovered, SilentMistake
from kemi.testing.fake import Call, FakeKSR
from kemi.testing.item import FakeItem, item
from kemi.testing.memory_queue import MemoryQueue
from kemi.testing.questions import Asked, IgnoredResult
from kemi.testing.runner import Result, Script, ScriptError, run_route
from kemi.testing.state import Change, Line, Relayed, Reply

__all__ = [
    "Asked",
    "BlockingRoute",
    "Call",
    "Change",
    "FakeError",
    "FakeItem",
    "FakeKSR",
    "IgnoredResult",
    "Line",
    "MemoryQueue",
    "NotCovered",
    "Relayed",
    "Reply",
    "Result",
    "Script",
    "ScriptError",
    "SilentMistake",
    "item",
    "run_route",
]
