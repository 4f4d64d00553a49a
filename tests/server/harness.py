"""A real Kamailio for one test: private files, free ports, one worker a port, and Python run inside it.

def test_something(servers: Servers) -> None:
    server = servers.start(Kamailio(definitions=["name=q;size=3"], workers=2))
    assert server.call("mq_add", "q", "key", "value", worker=0) == 1
    assert server.run("return mq.mq_size('q')", worker=1) == 1
"""

from __future__ import annotations

import ast
import functools
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.asleep import idle
from tests.server import sip, transports
from tests.server.process import STOPS_WITHIN, SYSTEM_PATH, ServerError, ServerProcess, wait_until
from tests.support.ports import free_port, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

CHECKOUT = Path(__file__).resolve().parents[2]
SHM = Path("/dev/shm")
MODULES = ("ctl", "kex", "tm", "pv", "sl", "xlog", "rtimer")
# The module that runs the scripts of tests, or app_python3s.
EMBEDDER = "app_python3"
RELOAD = {"app_python3": "app_python.reload", "app_python3s": "app_python3s.reload"}
# What a script for app_python3s has more: it calls functions of the module, without the message.
SINGLE = """
def script_init():
    global handler
    handler = mod_init()
    for name in dir(handler):
        if name.startswith("ksr_"):
            globals()[name] = lambda *arguments, function=getattr(handler, name): function(None, *arguments)

def child_init(rank):
    return handler.child_init(rank)
""".splitlines()
PING_WITHIN = 0.3  # seconds at first; longer after each silence, for what is only slow
_serial = itertools.count(1)


class RemoteError(Exception):
    """The job raised inside the server: `name` is the exception's type, the message holds its traceback there."""

    def __init__(self, name: str, text: str, trace: str) -> None:
        super().__init__(f"{name}: {text}\n{trace}")
        self.name = name
        self.text = text


def program(name: str) -> str:
    """Return the path of an installed program; a server that is missing is a failure, never a skip."""
    path = shutil.which(name, path=SYSTEM_PATH)
    if path is None:
        msg = f"{name} is not installed: `sh tests/run.sh` installs what the tests need"
        raise ServerError(msg)
    return path


@functools.cache
def release() -> tuple[int, ...]:
    """Return the version of the installed Kamailio, as (5, 6, 3)."""
    text = subprocess.run([program("kamailio"), "-v"], capture_output=True, text=True, timeout=30, check=True).stdout
    version = re.search(r"version: kamailio (\d+)\.(\d+)\.(\d+)", text)
    assert version is not None, text
    return tuple(map(int, version.groups()))


# After a callback that the script lacks, until 5.8.
LEAVES_EXCEPTIONS = release() < (5, 8)


def has_module(name: str) -> bool:
    """Whether the installed Kamailio has a module."""
    text = subprocess.run([program("kamailio"), "-h"], capture_output=True, text=True, timeout=30, check=True).stdout
    folders = re.search(r"Modules search path \(default: (.*)\)", text)
    assert folders is not None, text
    return any(Path(folder, f"{name}.so").exists() for folder in folders[1].split(":"))


def new_instance() -> str:
    """Return an instance name that no other server on this host has."""
    return f"test-{os.getpid()}-{next(_serial)}"


class Server:
    """A Kamailio with a private folder: started, talked to, stopped. Subclasses say with which files."""

    patience = 120.0  # seconds for a start

    def __init__(self, *, ports: int = 1, daemon: bool = False, user: str = "", instance: str = "") -> None:
        self.instance = instance or new_instance()
        self.daemon = daemon
        self.user = user
        # Short: the path of a unix socket has 108 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="mqk-"))
        self.home.chmod(0o755)
        if user:
            shutil.chown(self.home, user, user)
        self.control = self.home / "kamailio_ctl"
        self.ports = free_ports(ports)
        self.process = ServerProcess(self.argv(), self.home / "log", self.env())
        self._idle: set[int] = set()  # each was once
        self._starts = False  # has not come so far that it can be stopped
        self._ping_within = PING_WITHIN

    def config(self) -> Path:
        """Return the configuration file."""
        raise NotImplementedError

    def options(self) -> list[str]:
        """Return what else the command line has."""
        return []

    def env(self) -> dict[str, str]:
        """Return the environment's own variables."""
        return {}

    def argv(self) -> list[str]:
        """Return the command line; it logs to stderr, which stays open in daemon mode too."""
        mode = [] if self.daemon else ["-DD"]
        user = ["-u", self.user, "-g", self.user] if self.user else []
        paths = ["-f", str(self.config()), "-Y", str(self.home), "-P", str(self.home / "pid")]
        return [program("kamailio"), *mode, *user, *paths, "-E", "-m", "64", "-M", "16", *self.options()]

    # --- life

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._starts = True
        started = self.process.spawn()
        try:
            if self.daemon and started.wait(self.patience) != 0:
                self.process.fail("the daemon did not start")
            wait_until(lambda: self.ended() or (self.answers() and self._is_whole()), "it answers", self.patience)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            self.process.fail(str(error))
        if self.ended():
            self.process.fail("the server ended instead of starting")
        self._starts = False

    def refused(self, within: float = patience) -> str:
        """Start a server that must not start, and return its log; it has ended by itself, with an error."""
        started = self.process.spawn()
        self.process.wait_gone(within)
        if started.returncode == 0:
            self.process.fail("the server ended without an error")
        return self.process.log()

    def check(self) -> subprocess.CompletedProcess[str]:
        """Run `kamailio -c` with this server's configuration."""
        argv, env = [*self.argv(), "-c"], self.process.env
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)

    def stop(self, limit: float = STOPS_WITHIN) -> float:
        """Stop it as an init system does, SIGTERM to the main process; return the seconds until all have ended."""
        self.process.pids()  # all are known from here on, whoever outlives whom
        begin = time.monotonic()
        os.kill(self.main_pid, signal.SIGTERM)
        self.process.wait_gone(limit)
        return time.monotonic() - begin

    def ended(self) -> bool:
        return not self.process.pids()

    def _is_whole(self) -> bool:
        """Whether every process is there and has come to wait for work.

        One that was forked and has not run yet takes itself for the main process, and loses the signal to end.
        """
        pids = self.process.pids()
        self._idle |= set(filter(idle, pids))
        count = re.search(r"processes \(at least\): (\d+)", self.process.log())
        return count is not None and len(pids) >= int(count[1]) and self._idle.issuperset(pids)

    def answers(self) -> bool:
        """Whether it takes RPC commands and requests; what comes while it starts, Kamailio drops without a word."""
        try:
            if not self.control.exists() or self._kamcmd("core.uptime").returncode != 0:
                return False
            return all(self.ping(worker) for worker in range(len(self.ports)))
        except sip.NoReplyError:
            self._ping_within = min(10.0, 1.5 * self._ping_within)
            return False
        except subprocess.TimeoutExpired:  # it listens, and has not come to serve yet
            return False

    def ping(self, worker: int) -> bool:
        """Whether the worker serves a request that changes nothing; NoReplyError if it keeps silent."""
        return sip.send(self.ports[worker], "OPTIONS").result(self._ping_within).status == 200

    @property
    def main_pid(self) -> int:
        return int((self.home / "pid").read_text("ascii"))

    def told(self) -> list[str]:
        """Return our lines in the log, but the one that tells of a good start."""
        return [line for line in self.process.log_lines("mqueue_kemi: ") if " is ready, with " not in line]

    def segments(self) -> list[Path]:
        """Return the files of this instance in /dev/shm."""
        return sorted([*SHM.glob(f"mqk.{self.instance}"), *SHM.glob(f"mqk.{self.instance}[.~]*")])

    def clean(self) -> None:
        """Stop it if it still runs, which must leave no segment; end what is left and remove its files.

        Not one whose start failed: its processes may lose the signal, and what the test tells is why it failed.
        """
        try:
            if not self._starts and self.process.pids():
                self.stop()
                assert self.segments() == []
        finally:
            self.process.kill()
            shutil.rmtree(self.home)

    # --- talk

    def _kamcmd(self, *args: str) -> subprocess.CompletedProcess[str]:
        argv = [program("kamcmd"), "-s", f"unix:{self.control}", *args]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)

    def kamcmd(self, *args: str) -> str:
        """Run an RPC command as an operator does, and return what it printed."""
        done = self._kamcmd(*args)
        if done.returncode != 0:
            self.process.fail(f"kamcmd {args}: {done.stdout}{done.stderr}")
        return done.stdout

    def request(self, method: str, worker: int = 0, **parts: bytes) -> sip.Reply:
        """Send a SIP request to one port and return the reply."""
        return sip.send(self.ports[worker], method, **parts).result()


@dataclass
class Job:
    """Python on its way through one process of the server."""

    path: Path
    transaction: sip.Transaction

    def result(self, timeout: float = 30.0) -> Any:
        """Return what the job returned; RemoteError if it raised."""
        self.transaction.result(timeout)
        kind, *rest = ast.literal_eval(self.path.with_suffix(".out").read_text("ascii"))
        if kind == "raised":
            raise RemoteError(*rest)
        return rest[0]


class Kamailio(Server):
    """A server whose script runs what a test asks for; each worker has a port of its own.

    `definitions` are values of the parameter `mqueue`, `params` other parameters, name and value. `handler` is the body
    of a class that overrides `remote/probe.py`. `timers` rtimer processes call `ksr_consume`. `modules` and `cfg` are
    more for kamailio.cfg.
    """

    def __init__(  # noqa: PLR0913 keywords, each with a default
        self,
        definitions: Sequence[str] = ("name=q",),
        *,
        params: Sequence[tuple[str, object]] = (),
        handler: str = "pass",
        workers: int = 1,
        timers: int = 0,
        modules: Sequence[str] = (),
        cfg: str = "",
        daemon: bool = False,
        user: str = "",
        instance: str = "",
    ) -> None:
        super().__init__(ports=workers, daemon=daemon, user=user, instance=instance)
        self.consumed = self.home / "consumed"
        self.consumed.mkdir()
        if user:
            shutil.chown(self.consumed, user, user)
        self._handler = handler
        self._jobs = itertools.count(1)
        self.write_script(definitions, params)
        self.config().write_text(self._config_text(timers, modules, cfg), "utf-8")

    def config(self) -> Path:
        return self.home / "kamailio.cfg"

    def write_script(self, definitions: Sequence[str], params: Sequence[tuple[str, object]] = ()) -> None:
        """Write the routing script with these definitions: at first, and again before a reload."""
        all_params = [("instance", self.instance), *params, *(("mqueue", text) for text in definitions)]
        lines = [
            "import sys",
            f"sys.path.insert(0, {str(CHECKOUT)!r})",
            "import KSR",
            "import mqueue_kemi",
            "from tests.server.remote.probe import Probe",
            *(f"mqueue_kemi.modparam('mqueue', {name!r}, {value!r})" for name, value in all_params),
            "class Script(Probe):",
            f"    consumed = {str(self.consumed)!r}",
            textwrap.indent(textwrap.dedent(self._handler), "    "),
            "def mod_init():",
            "    return mqueue_kemi.mod_init(Script())",
            *(SINGLE if EMBEDDER == "app_python3s" else []),
        ]
        (self.home / "script.py").write_text("\n".join(lines) + "\n", "utf-8")

    def _config_text(self, timers: int, modules: Sequence[str], cfg: str) -> str:
        names = [*MODULES, *modules, EMBEDDER]
        params = {"load": f"{self.home}/script.py"}
        if EMBEDDER == "app_python3s":
            params |= {"script_init": "script_init", "script_child_init": "child_init"}
        timer_names = [f"t{number}" for number in range(timers)]
        lines = [
            "#!KAMAILIO",
            "debug=2",
            "children=1",
            "disable_tcp=yes",
            "auto_aliases=no",
            *(f"listen=udp:{sip.HOST}:{port}" for port in self.ports),
            *(f'loadmodule "{name}.so"' for name in names),
            *(f'modparam("{EMBEDDER}", "{name}", "{value}")' for name, value in params.items()),
            *(f'modparam("rtimer", "timer", "name={name};interval=20000u;mode=1;")' for name in timer_names),
            *(f'modparam("rtimer", "exec", "timer={name};route=ksr_consume")' for name in timer_names),
            cfg,
            'cfgengine "python"',
        ]
        return "\n".join(lines) + "\n"

    def reload(self) -> str:
        """Have each process execute the script again at its next call; return what kamcmd printed."""
        return self.kamcmd(RELOAD[EMBEDDER])

    def ping(self, worker: int) -> bool:
        return bool(self.submit("return True", worker).result(self._ping_within))

    def submit(self, code: str, worker: int = 0) -> Job:
        """Send the body of a function to one worker; `KSR`, `mq` (our module) and `state` (a dict) are there."""
        path = self.home / f"job-{next(self._jobs)}.py"
        path.write_text("def job():\n" + textwrap.indent(textwrap.dedent(code), "    "), "ascii")
        return Job(path, sip.send(self.ports[worker], "INFO", body=str(path).encode()))

    def run(self, code: str, worker: int = 0) -> Any:
        """Run the body of a function in one worker and return its result."""
        return self.submit(code, worker).result()

    def call(self, function: str, *args: object, worker: int = 0) -> Any:
        """Call a function of the module in one worker, with plain values."""
        return self.run(f"return mq.{function}(*{args!a})", worker)

    def worker_pid(self, worker: int = 0) -> int:
        """Return the pid of the process behind that port."""
        return int(self.run("import os; return os.getpid()", worker))

    def taken(self) -> list[list[tuple[str, str]]]:
        """Return what each timer process has consumed so far, in its order."""
        texts = [path.read_text("ascii") for path in sorted(self.consumed.iterdir())]
        # A line that is still being written does not count yet.
        return [[ast.literal_eval(line) for line in text[: text.rfind("\n") + 1].splitlines()] for text in texts]


class Reachable(Kamailio):
    """A server that takes RPC in every way. With `theirs` it has the C module's queues, and none of ours."""

    def __init__(
        self,
        definitions: Sequence[str] = ("name=q",),
        *,
        theirs: bool = False,
        handler: str = "pass",
        options: Sequence[str] = (),
        cfg: str = "",
    ) -> None:
        self._options = options
        self.theirs = theirs
        self.tcp_port = free_port()
        answer = "def ksr_xhttp(self, msg, event):\n    KSR.jsonrpcs.dispatch()\n    return 1\n"
        queues = "\n".join(f'modparam("mqueue", "mqueue", "{text}")' for text in definitions) if theirs else ""
        super().__init__(
            definitions,
            handler=answer + textwrap.dedent(handler),
            modules=[*(["mqueue"] if theirs else []), "xhttp", "jsonrpcs"],
            cfg=f"{queues}\n{cfg}",
        )
        (self.home / "tmp").mkdir()
        self.http = transports.Http(self.tcp_port)
        self.datagram = transports.Datagram(self.home / "dgram")
        self.fifo = transports.Fifo(self.home / "fifo", self.home / "tmp")
        self.clients: list[transports.Client] = [
            transports.Kamcmd(self),
            transports.Kamctl(self),
            transports.Kamcli(self),
        ]

    @property
    def json(self) -> list[transports.Json]:
        """Every way for JSON-RPC."""
        return [self.http, self.datagram, self.fifo]

    def options(self) -> list[str]:
        return list(self._options)

    def write_script(self, definitions: Sequence[str], params: Sequence[tuple[str, object]] = ()) -> None:
        super().write_script(definitions, params)
        if self.theirs:
            script = self.home / "script.py"
            kept = [line for line in script.read_text("utf-8").splitlines() if "modparam" not in line]
            text = "\n".join(kept).replace("return mqueue_kemi.mod_init(Script())", "return Script()")
            script.write_text(text + "\n", "utf-8")

    def _config_text(self, timers: int, modules: Sequence[str], cfg: str) -> str:
        ways = f"""
            disable_tcp=no
            listen=tcp:{sip.HOST}:{self.tcp_port}
            modparam("jsonrpcs", "transport", 0)
            modparam("jsonrpcs", "fifo_name", "{self.home}/fifo")
            modparam("jsonrpcs", "fifo_reply_dir", "{self.home}/tmp/")
            modparam("jsonrpcs", "dgram_socket", "{self.home}/dgram")
            modparam("xhttp", "event_callback", "ksr_xhttp")
        """
        return super()._config_text(timers, modules, textwrap.dedent(ways) + cfg)

    def add_item(self, queue: str, key: str, value: str) -> None:
        """Add an item from a script."""
        module = "KSR.mqueue" if self.theirs else "mq"
        assert self.run(f"return {module}.mq_add(*{(queue, key, value)!a})") == 1


class Example(Server):
    """The example of conf/, as it is, with the port, the runtime folder and the instance of this test."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()
        text = (CHECKOUT / "conf/mqueue_kemi.cfg").read_text("utf-8")
        (self.home / "mqueue_kemi.cfg").write_text(
            text + f'modparam("mqueue", "instance", "{self.instance}")\n', "utf-8"
        )

    def config(self) -> Path:
        return CHECKOUT / "conf" / self.name

    def options(self) -> list[str]:
        return ["-w", str(CHECKOUT), "-A", f"SIP_PORT={self.ports[0]}", "-A", "CONSUME_INTERVAL=20000u"]

    def env(self) -> dict[str, str]:
        return {"MQUEUE_KEMI_INSTANCE": self.instance, "MQUEUE_KEMI_CFG": str(self.home / "mqueue_kemi.cfg")}


AnyServer = TypeVar("AnyServer", bound=Server)


class Servers:
    """The servers of one test; whatever happens to the test, nothing of them is left."""

    def __init__(self, stack: ExitStack) -> None:
        self.all: list[Server] = []
        self._stack = stack
        stack.callback(self._sweep)

    def _sweep(self) -> None:
        """Remove the segments of killed servers, when none of this test's servers runs any more."""
        for server in self.all:
            for path in server.segments():
                path.unlink()

    def add(self, server: AnyServer) -> AnyServer:
        """Take charge of a server that the test starts itself."""
        self.all.append(server)
        self._stack.callback(server.clean)
        return server

    def start(self, server: AnyServer) -> AnyServer:
        """Start a server and return it when all its workers answer."""
        self.add(server).start()
        return server
