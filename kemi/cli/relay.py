# SPDX-License-Identifier: GPL-2.0-or-later
"""The command relay: the items of a queue to an engine, or of an engine's queue to here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from kemi.cli import metrics, relay_settings, relaymetrics, signals
from kemi.cli.call import Call, Failure
from kemi.cli.output import say
from kemi.cli.relay_settings import Settings
from kemi.cli.usage.codes import DONE
from kemi.queue.client.attached import AttachedQueue
from kemi.relay.aof import NotBegunAnew
from kemi.relay.back import Back
from kemi.relay.forward import Counts, Forward
from kemi.relay.link import connected
from kemi.relay.server import RedisEngine, check_reader


def relay(call: Call) -> int:
    """`relay Q URL`, `relay --from STREAM Q URL` or `relay --config FILE`, for ever; with --check not at all."""
    settings = relay_settings.of(call.arguments)
    for name in ("instance", "owner", "queue"):
        if getattr(settings, name) is not None:
            setattr(call.arguments, name, getattr(settings, name))
    if call.arguments.check:
        return _check(call, settings)
    with call.local_queue() as queue:
        _run(queue, settings)
    signals.check()
    return DONE


def _engine(settings: Settings) -> RedisEngine:
    address = settings.address()
    return RedisEngine(address, settings.stream or settings.queue, settings.kept(), address.max_len or 0)


def _check(call: Call, settings: Settings) -> int:
    """`relay --check`: may the engine be used, and does it keep what is asked of it?"""
    engine = _engine(settings)
    if settings.from_:
        link = connected(engine.address)
        try:
            check_reader(link, settings.from_)
        finally:
            link.close()
        call.tell(f"{engine.address}: all is well", engine=str(engine.address))
        return DONE
    try:
        engine.connect()
    except NotBegunAnew:  # the last of the checks; a relay waits for it
        pass
    finally:
        engine.close()
    call.tell(f"{engine}: all is well", engine=str(engine.address), durability=str(engine.durability))
    return DONE


def _run(queue: AttachedQueue, settings: Settings) -> None:
    relaying: Forward | Back
    if settings.from_:
        address = settings.address()
        relaying = Back(queue, address, settings.from_, host=settings.host_id, batch=settings.batch, tell=say)
    else:
        relaying = Forward(
            queue,
            _engine(settings),
            host=settings.host_id,
            batch=settings.batch,
            replay=settings.replayed(),
            tell=say,
        )
    with _metrics(settings, queue, lambda: relaying.counts, relaying.lag):
        relaying.run(signals.pending, _pause)


def _pause(seconds: float) -> None:
    signals.wait(seconds=seconds)


@contextmanager
def _metrics(
    settings: Settings, queue: AttachedQueue, counts: Callable[[], Counts], lag: Callable[[], tuple[int, float]]
) -> Iterator[None]:
    """Write the metrics again and again, and at the end, if there is a file for them."""
    if not settings.metrics:
        yield
        return
    over = threading.Event()

    def write() -> None:
        direction = "from" if settings.from_ else "to"
        text = relaymetrics.text(queue.instance, queue.name, direction, counts(), lag())
        metrics.write_file(settings.metrics, text)

    def write_again() -> None:
        while not over.wait(relaymetrics.EVERY):
            try:
                write()
            except Exception as error:  # noqa: BLE001 - the relay goes on without them
                say(f"metrics: {error}")

    write()  # a file that cannot be written is a mistake, and known at once
    threading.Thread(target=write_again, name="metrics", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        try:
            write()
        except Failure as error:
            say(str(error))
