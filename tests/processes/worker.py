"""An unrelated process that knows a queue by its names: `python -m tests.processes.worker ROLE INSTANCE QUEUE ...`."""

from __future__ import annotations

import json
import sys

from mqueue_kemi import attach
from tests.processes.load import PATIENCE, consume, produce


def main(role: str, instance: str, name: str, *arguments: str) -> None:
    """Produce (arguments: producer, count) or consume (argument: timeout), and print the result."""
    with attach(name, instance, lock_timeout=PATIENCE) as queue:
        if role == "produce":
            result: object = produce(queue, arguments[0], int(arguments[1]))
        else:
            result = consume(queue, float(arguments[0]))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
