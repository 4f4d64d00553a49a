"""The schedule of a chaos: what is done to the processes of an instance, and when, from one seed."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from typing import TYPE_CHECKING, Any, Callable

from tests.processes import own_shm
from tests.processes.children import Children
from tests.server.harness import Kamailio
from tests.server.process import adopt_orphans, wait_until
from tests.stress import books
from tests.stress.lives import CONSUMERS, PRODUCERS, Lives, send

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

SHM_BYTES = 48 << 20
_RATE = 30  # things that happen a second
_LATE = 20  # seconds until a server that ends is given up


class Chaos:
    """One round."""

    def __init__(self, lives: Lives, seed: int) -> None:
        self.lives = lives
        self.kills = 0
        self.counts: dict[str, int] = {}
        self.schedule: list[str] = []
        self._chance = random.Random(seed)  # noqa: S311 no secret
        self._begin = time.monotonic()
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._actions: dict[Callable[[], str], int] = {
            self.kill_outsider: 60,
            self.stop_outsider: 8,
            self.stop_one_of_the_server: 8,
            self.kill_one_of_the_server: 8,
            self.kill_main: 5,
            self.reload: 6,
            self.fill_memory: 4,
            self.take_database_away: 4,
            self.restart: 4,
            self.kill_while_it_ends: 5,
        }

    def run(self, kills: int) -> None:
        """Do it until so many were killed."""
        for role, count in (("producer", PRODUCERS), ("consumer", CONSUMERS)):
            for _ in range(count):
                self.lives.start_outsider(role)
        self.lives.begin()
        while self.kills < kills:
            time.sleep(self._chance.expovariate(_RATE))
            self._do_what_is_due()
            action = self._chance.choices(list(self._actions), list(self._actions.values()))[0]
            self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
            self._note(action.__name__)
            self._note("  " + action())
        self._do_what_is_due(everything=True)
        self._note("finish")
        self.lives.finish()

    def _note(self, text: str) -> None:
        self.schedule.append(f"{time.monotonic() - self._begin:8.2f} {text}")

    def _do_what_is_due(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        due = [action for moment, action in self._later if everything or moment <= now]
        self._later = [(moment, action) for moment, action in self._later if not everything and moment > now]
        for action in due:
            action()

    def _in(self, seconds: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + self._chance.uniform(0, seconds), action))

    # --- outsiders

    def kill_outsider(self) -> str:
        name = self._chance.choice(sorted(self.lives.outsiders))
        self.lives.replace_outsider(name)
        self.kills += 1
        return name

    def stop_outsider(self) -> str:
        name = self._chance.choice(sorted(self.lives.outsiders))
        child = self.lives.outsiders[name]
        child.send(signal.SIGSTOP)
        self._in(2.5, lambda: child.send(signal.SIGCONT))
        return name

    # --- the server

    def _server(self) -> Kamailio:
        return self.lives.server or self.lives.begin()

    def stop_one_of_the_server(self) -> str:
        pid = self._chance.choice(self._server().process.pids())
        send(pid, signal.SIGSTOP)
        # Before anybody ends this server, it is awake again: `_end` sees to that.
        self._in(2.5, lambda: self._wake(pid))
        return str(pid)

    def _wake(self, pid: int) -> None:
        server = self.lives.server
        if server is not None and pid in server.process.pids():
            send(pid, signal.SIGCONT)

    def _wake_all(self, server: Kamailio) -> None:
        for pid in server.process.pids():
            send(pid, signal.SIGCONT)

    def kill_one_of_the_server(self) -> str:
        """Kill any process but the main one: Kamailio ends by itself then."""
        server = self._server()
        main_pid = server.main_pid
        pid = self._chance.choice([pid for pid in server.process.pids() if pid != main_pid])
        self._wake_all(server)
        self.kills += send(pid, signal.SIGKILL)
        killed_too = self._maybe_kill_main(server, main_pid, 0.2)
        self._wait_for_the_end(server)
        self.lives.after(server, asked=False)
        self.lives.begin()
        return f"{pid}{killed_too}"

    def _maybe_kill_main(self, server: Kamailio, main_pid: int, probability: float) -> str:
        """Kill the main process, too, while it may be saving."""
        if self._chance.random() > probability:
            return ""
        time.sleep(self._chance.uniform(0, 0.12))
        if main_pid not in server.process.pids() or not send(main_pid, signal.SIGKILL):
            return ", ended before it was killed"
        self.kills += 1
        self._kill_all(server)
        return ", and the main process while it ended"

    def _kill_all(self, server: Kamailio) -> None:
        """Kill the processes of a server, one after the other."""
        pids = server.process.pids()
        self._chance.shuffle(pids)
        for pid in pids:
            self.kills += send(pid, signal.SIGKILL)
            time.sleep(self._chance.uniform(0, 0.002))

    def _wait_for_the_end(self, server: Kamailio) -> None:
        server.process.wait_gone(_LATE)

    def kill_main(self) -> str:
        """Kill the main process; its workers live on for a while, and then are killed, too.

        Nobody may start beside them: see tests/server/test_main_killed.py.
        """
        server = self._server()
        self.lives.stop_calls()
        self._wake_all(server)
        self.kills += send(server.main_pid, signal.SIGKILL)
        time.sleep(self._chance.uniform(0, 0.2))
        self._kill_all(server)
        self._wait_for_the_end(server)
        self.lives.after(server, asked=False)
        self.lives.begin()
        return "restart when all its processes were dead"

    def reload(self) -> str:
        """Every process loads the script again at its next call."""
        server = self._server()
        self._wake_all(server)
        return server.reload().strip()

    def restart(self) -> str:
        """Stop it as an init system does."""
        server = self._server()
        self._wake_all(server)
        self._ask_to_end(server, server.main_pid)
        self._wait_for_the_end(server)
        self.lives.after(server, asked=True)
        self.lives.begin()
        return ""

    def _ask_to_end(self, server: Kamailio, main_pid: int) -> None:
        """Send SIGTERM until it is heard: Kamailio overlooks a signal that comes just behind another one (SIGCHLD)."""
        for _ in range(3):
            send(main_pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: main_pid not in server.process.pids(), "the main process ends", _LATE / 4)
                return

    def kill_while_it_ends(self) -> str:
        """Ask it to end, and kill the main process on the way."""
        server = self._server()
        self._wake_all(server)
        main_pid = server.main_pid
        send(main_pid, signal.SIGTERM)
        how = self._maybe_kill_main(server, main_pid, 1.0)
        if main_pid in server.process.pids():
            self._ask_to_end(server, main_pid)
        self._wait_for_the_end(server)
        self.lives.after(server, asked=True)
        self.lives.begin()
        return how

    # --- surroundings

    def fill_memory(self) -> str:
        if not self.lives.full:
            self.lives.fill_memory()
            self._in(1.5, self.lives.free_memory)
        return ""

    def take_database_away(self) -> str:
        database = self.lives.database
        if database.is_there:
            database.close()
            self._in(3.0, database.open)
        return ""


def _too_late(_number: int, _frame: FrameType | None) -> None:
    msg = "the round did not come to an end"
    raise TimeoutError(msg)


def round_of(folder: Path, seed: int, kills: int, seconds: int) -> dict[str, Any]:
    """Run one round in this process, which gets a /dev/shm of its own, and say what came of it."""
    own_shm.enter(SHM_BYTES)
    adopt_orphans()
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(seconds)
    lives = Lives(folder, Children())
    chaos = Chaos(lives, seed)
    begin = time.monotonic()
    trouble = ""
    try:
        chaos.run(kills)
    except Exception as error:  # noqa: BLE001 it is reported with the schedule
        trouble = f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(Exception):
            lives.end()
    found = books.read(lives.books)
    return {
        "kills": chaos.kills,
        "counts": chaos.counts,
        "servers": lives.count,
        "refused": lives.refused,
        "recovered": lives.recovered,
        "added": sum(found.added.values()),
        "taken": sum(map(len, found.taken)),
        "in_hand": found.in_hand,
        "seconds": time.monotonic() - begin,
        "wrong": [*([trouble] if trouble else []), *lives.wrong, *([] if trouble else found.wrong())][:30],
        "schedule": chaos.schedule,
    }
