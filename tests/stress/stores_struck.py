"""Which lines of the source store into a segment when the cases of test_every_store are done; prints them as JSON."""

from __future__ import annotations

import json
import linecache
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from kemi.queue.catalog import header
from kemi.queue.format.layout import CHUNK
from kemi.queue.log.keyed import KeyedLog
from tests.processes import moments as moments_module
from tests.processes.cases import CASES
from tests.processes.children import Children
from tests.processes.every_store import replaced
from tests.processes.moments import Moments, Watched, watch
from tests.processes.serve import Serve

if TYPE_CHECKING:
    from types import FrameType

    from kemi.queue.queue import Queue
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
    log = queue._log
    if isinstance(log, KeyedLog) and log.head.oldest():  # as if a pop had been broken off
        lead, link = log.index.way_to(log.core.head())
        log.core.mapping.u32[lead] = link
        log.recover()
    queue._log.core.begin()
    queue._log.core.chunks.alloc()
    queue._log.recover()
    return sorted(_seen)


def main() -> None:
    """Walk once through each case."""
    serve, children = Serve(), Children()
    try:
        for case in CASES.values():
            with replaced(header, "_BUCKET_BYTES", CHUNK // case.buckets):
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
