"""One random sequence of calls for each seed, and the queues that it needs. Knows nothing of a server."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Every bound with every addmode, and a queue that does not exist.
DEFINITIONS = (
    "name=plain",
    "name=one;size=1",
    "name=five;size=5",
    "name=oldest;addmode=1",
    "name=oldest3;size=3;addmode=1",
    "name=newest;addmode=2",
    "name=newest3;size=3;addmode=2;",
)
QUEUES = (*(text.split(";")[0][len("name=") :] for text in DEFINITIONS), "nosuch")
CALLS = {
    "mq_add": 10,
    "mq_fetch": 8,
    "mq_pv_free": 1,
    "mq_size": 3,
    "mqk_get": 3,
    "mqv_get": 3,
    "mqk_gete": 1,
    "mqk_getw": 1,
    "mqv_gete": 1,
    "mqv_getw": 1,
}
KEYS = ("", "a", "b", "c", "A", "ab", "1", "01", " a", "\u00e9", "e\u0301")

Step = tuple[str, tuple[str, ...]]


def steps(seed: int) -> Iterator[Step]:
    """Make calls without end, the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 no secret
    names, weights = list(CALLS), list(CALLS.values())
    while True:
        name = rng.choices(names, weights)[0]
        arguments: tuple[str, ...] = (rng.choice(QUEUES),)
        if name == "mq_add":
            arguments += (rng.choice(KEYS), rng.choice(("", "v" * rng.randrange(40) + str(rng.random()))))
        yield name, arguments
