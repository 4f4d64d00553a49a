"""Which lines of the source store into a segment when the cases of test_every_store are done; prints them as JSON."""

from __future__ import annotations

import json
import linecache
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from kemi.queue import index
from kemi.queue.layout import W_ADDED
from tests.processes import moments as moments_module
from tests.processes.cases import CASES
from tests.processes.children import Children
from tests.processes.every_store import replaced
from tests.processes.moments import Moments, Watched, watch
from tests.processes.serve import Serve

if TYPE_CHECKING:
    from types import FrameType

    from mqueue_kemi import Queue
    from tests.processes.cases import Case

_seen: set[tuple[str, str]] = set()


class Noting(Watched):
    """Notes from where a store comes."""

    def __setitem__(self, where: object, data: object) -> None:
        frame: FrameType = sys._getframe(1)
        path = frame.f_code.co_filename
        line = linecache.getline(path, frame.f_lineno).strip()
        _seen.add((os.path.splitext(os.path.basename(path))[0], line))
        super().__setitem__(where, data)


def _operate(queue: Queue, case: Case) -> list[tuple[str, str]]:
    """Do it, and then the repair that would follow a kill at its end."""
    with replaced(moments_module, "Watched", Noting):
        watch(queue, Moments())
    case.operate(queue)
    queue._ring.recover()
    queue._ring._words[W_ADDED] -= 1  # as if the last add had not been counted
    queue._ring.recover()
    return sorted(_seen)


def main() -> None:
    """Walk once through each case."""
    serve, children = Serve(), Children()
    try:
        for case in CASES.values():
            with replaced(index, "BUCKETS_PER_CHUNK", case.buckets):
                queue = serve(case.definition, max_memory=case.max_memory)
                case.prepare(queue)
                for store in children.fork(partial(_operate, queue, case)).result():
                    _seen.add((store[0], store[1]))
                serve.stop()
    finally:
        serve.stop()
        children.end()
    print(json.dumps(sorted(_seen)))  # noqa: T201 its output


if __name__ == "__main__":
    main()
