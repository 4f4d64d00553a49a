"""Runs the blocks of one page, in namespaces of its own: mounts, pids, a network with nothing but loopback.

    python -m tests.docs.inside BLOCKS RESULTS         both files of JSON

A real Kamailio serves the instance "kamailio" there, with the queues that the pages use, from /etc/kamailio: each
command and each program is what a reader types, kamcmd, mqueue-kemi, attach("myq"). The folder in which they run has
conf/ and ops/. Whatever is left running ends with the namespaces.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.with_plugin import with_plugin

CHECKOUT = Path(__file__).resolve().parents[2]
WITHIN = 60.0  # seconds, for each block
QUEUES = ("myq", "calls", "cdr", "acc", "work0", "bad", "qaz", "work1", "work2", "work3", "cdr_dead", "lookups")
PYTHON = "/usr/bin/python3"
SCRIPT = f"""
import KSR
import mqueue_kemi
from mqueue_kemi import modparam
for name in {QUEUES!r}:
    modparam("mqueue", "mqueue", f"name={{name}}")
class Script:
    def child_init(self, rank):
        return 0
    def ksr_request_route(self, msg):
        KSR.sl.send_reply(200, "OK")
        return 1
def mod_init():
    return mqueue_kemi.mod_init(Script())
"""
CONFIG = """
debug=2
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:127.0.0.1:5060
loadmodule "ctl.so"
loadmodule "kex.so"
loadmodule "pv.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "xlog.so"
loadmodule "app_python3.so"
modparam("app_python3", "load", "/etc/kamailio/kamailio.py")
cfgengine "python"
"""
# Parts of a script or a configuration, with what they need around them.
HEAD_OF_CONFIG = "#!KAMAILIO\nlisten=udp:127.0.0.1:5060\n"
FAKE = """
import runpy, sys
from kemi.testing import FakeKSR
import mqueue_kemi
with FakeKSR().installed() as ksr:
    from mqueue_kemi import *
    import KSR
    ksr.receive("INVITE sip:bob@example.org")
    modparam("mqueue", "mqueue", "name=myq")
    mod_init(object())
    mq_add("myq", "key", "value")
    exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"))
"""
OF_A_SCRIPT = """
import sys
from kemi.testing import Script
with Script(sys.argv[1]) as script:
    for method in ("INVITE", "MESSAGE"):
        assert script.request(f"{method} sip:bob@example.org").returned == 1
    if hasattr(script.handler, "ksr_consume"):
        assert script.timer("ksr_consume").returned == 1
"""
OF_APP_PYTHON3S = """
import inspect, sys
from kemi.testing import FakeKSR
with FakeKSR().installed() as ksr:
    ksr.receive("INVITE sip:bob@example.org")
    scope = {"__name__": "script"}
    module = sys.modules["script"] = type(sys)("script")
    exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), module.__dict__)
    module.script_init()
    for name, function in list(vars(module).items()):
        if name.startswith("ksr_"):
            assert function(*["rtimer"] * len(inspect.signature(function).parameters)) == 1
"""


SKIPPED = "skipped: "  # what a result begins with


class Failed(Exception):
    """A block does not do what it should."""


class Missing(Exception):
    """What runs a block is not installed."""


class Place:
    """The private host."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="page-", dir="/tmp"))
        for kind in ("conf", "ops"):
            shutil.copytree(CHECKOUT / kind, self.folder / kind)
        programs = self.folder / ".bin"
        programs.mkdir()
        self._program(programs / "mqueue-kemi", f'exec {PYTHON} -m mqueue_kemi "$@"')
        self._program(programs / "pypy3", f'exec {PYTHON} "$@"')
        self.env = {
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
        }
        self.others: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def _program(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n", "ascii")
        path.chmod(0o755)

    def prepare(self) -> None:
        """Make the private folders, and bring loopback up."""
        kept = Path(*Path(sys.executable).parts[:4]) if sys.executable.startswith("/var/lib/") else None
        beside = tempfile.mkdtemp(dir="/tmp")
        if kept:
            self.must("mount", "--bind", str(kept), beside)
        for folder in ("/dev/shm", "/etc/kamailio", "/run/kamailio", "/var/lib"):
            os.makedirs(folder, exist_ok=True)
            mode = "mode=1777" if folder == "/dev/shm" else "mode=755"
            self.must("mount", "-t", "tmpfs", "-o", mode, "tmpfs", folder)
        if kept:
            kept.mkdir()
            self.must("mount", "--move", beside, str(kept))
        os.rmdir(beside)
        os.makedirs("/var/lib/prometheus/node-exporter")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack("16sh22x", b"lo", 0x1 | 0x40)  # up and running
            fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS

    def start_server(self) -> None:
        Path("/etc/kamailio/kamailio.py").write_text(SCRIPT, "utf-8")
        Path("/etc/kamailio/kamailio.cfg").write_text(HEAD_OF_CONFIG.partition("\n")[0] + CONFIG, "utf-8")
        argv = ["kamailio", "-DD", "-E", "-f", "/etc/kamailio/kamailio.cfg", "-P", "/run/kamailio/pid"]
        with (self.folder / ".log").open("wb") as log:
            server = subprocess.Popen(argv, cwd="/", env=self.env, stdout=log, stderr=log)
        end = time.monotonic() + WITHIN
        while self.run("sh", "-c", "kamcmd core.uptime && mqueue-kemi check --live").returncode:
            if server.poll() is not None or time.monotonic() > end:
                raise Failed((self.folder / ".log").read_text())
            time.sleep(0.05)

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("env", self.env)
        return subprocess.run(
            argv,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )

    def must(self, *argv: str, **options: Any) -> str:
        done = self.run(*argv, **options)
        if done.returncode:
            raise Failed(f"{argv[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def begin(self, code: str, until: str) -> None:
        """Start what goes on while the rest of the page is run, and wait until a command succeeds."""
        with (self.folder / ".log").open("ab") as log:
            argv = ["sh", "-euc", code]
            self.others.append(subprocess.Popen(argv, cwd=self.folder, env=self.env, stdout=log, stderr=log))
        self.must("timeout", str(int(WITHIN / 2)), "sh", "-c", until)

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path


def run_block(place: Place, block: dict[str, str]) -> None:
    """Run one block as its language and its text say. Raises Failed."""
    code, language = block["code"], block["language"]
    if block["word"] == "background":
        place.begin(code, block["detail"])
        return
    if block["word"] == "wrong":
        place.file(block["detail"], code)
        return
    if block["word"] == "given":
        code = block["detail"].replace("; ", "\n") + "\n" + code
    elif block["word"] == "file":
        place.file(block["detail"], code)
    KINDS[language](place, code)


# --- Python -----------------------------------------------------------------------------------------------------------


def python(place: Place, code: str) -> None:
    """A test, a script, a worker, definitions, or some lines of a script."""
    if "def test_" in code:
        path = place.file("test_page.py", code)
        env = {**place.env, "PATH": f"{place.env['PATH']}:{os.path.dirname(sys.executable)}"}
        place.must(*with_plugin(str(path)), env=env)
    elif "def script_init" in code:
        env = {**place.env, "MQUEUE_KEMI_CFG": "conf/mqueue_kemi.cfg"}
        place.must(PYTHON, "-c", OF_APP_PYTHON3S, str(place.file("script.py", code)), env=env)
    elif "def mod_init" in code:
        path = place.file("kamailio.py", code)
        place.must("mqueue-kemi", "check", str(path))
        place.must(PYTHON, "-c", OF_A_SCRIPT, str(path))
    elif "kemi.testing" in code:
        place.must(sys.executable, "-W", "error", str(place.file("program.py", code)))
    elif "attach(" in code or "subprocess" in code or "SystemExit(run(" in code:
        worker(place, code)
    elif "KSR." in code or re.search(r"^mq_", code, re.MULTILINE):
        place.must(PYTHON, "-c", FAKE, str(place.file("lines.py", code)))
    elif "modparam(" in code and "import KSR" not in code:
        imports = "" if "import modparam" in code else "from mqueue_kemi import modparam\n"
        place.must(PYTHON, "-W", "error", str(place.file("definitions.py", imports + code)))
    else:
        place.must(PYTHON, "-W", "error", str(place.file("program.py", code)))


def worker(place: Place, code: str) -> None:
    """A program with queues: it gets some items, and has to take them all; then it may go on for ever."""
    found = re.search(r'attach\("\w+", "(\w+)"', code)
    command = ["mqueue-kemi", "--instance", found[1] if found else "kamailio"]
    names = [name for name in QUEUES if f'"{name}"' in code or (name == "work0" and "work{" in code)]
    value = json.dumps({"caller": "alice", "callee": "bob", "at": 1.0})
    for name in names:
        for key in ("1", "2", "3"):
            place.must(*command, "add", name, key, value)
    path = place.file("worker.py", code)
    with (place.folder / "worker.log").open("w+b") as log:
        process = subprocess.Popen(
            [PYTHON, "-W", "error", str(path)], cwd=place.folder, env=place.env, stdout=log, stderr=log
        )
        end = time.monotonic() + WITHIN
        while process.poll() is None and not _done(place, command, names):
            if time.monotonic() > end:
                process.kill()
                raise Failed(f"{names}: items are left after {WITHIN} s")
            time.sleep(0.05)
        process.terminate()
        code_at_end = process.wait(WITHIN)
        log.seek(0)
        said = log.read().decode()
    if code_at_end not in (0, -signal.SIGTERM) or "Traceback" in said:
        raise Failed(f"it ended with {code_at_end}\n{said}")


def _done(place: Place, command: list[str], names: list[str]) -> bool:
    """Whether nothing is left in the queues, reserved items included."""
    found = [json.loads(place.must(*command, "stats", name, "--json")) for name in names]
    return bool(names) and not any(one["size"] + one["reserved"] for one in found)


# --- the shell --------------------------------------------------------------------------------------------------------


def sh(place: Place, code: str) -> None:
    """What a reader types; every line has to succeed. The queues have some items."""
    for name in QUEUES[:3]:
        place.must("mqueue-kemi", "add", name, "1234", "call from alice")
    place.must("sh", "-euc", code)


def console(place: Place, code: str) -> None:
    """Commands behind `$ ` with their output."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        done = place.run("sh", "-c", command)
        if done.stdout + done.stderr != expected:
            raise Failed(f"{command} gives\n{done.stdout}{done.stderr}")


# --- configuration ----------------------------------------------------------------------------------------------------


def cfg(place: Place, code: str) -> None:
    """A definitions file, a whole kamailio.cfg, or a part of one."""
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    if all(line.startswith('modparam("mqueue"') for line in lines):
        place.must("mqueue-kemi", "check", "--strict", str(place.file("mqueue_kemi.cfg", code)))
        return
    text = HEAD_OF_CONFIG + code
    if "request_route" not in code and "cfgengine" not in code:
        text += "\nrequest_route {\n    exit;\n}\n"
    try:
        place.must("kamailio", "-c", "-f", str(place.file("page.cfg", text)))
    except Failed as error:
        if "app_python3s" in code and "could not find module <app_python3s" in str(error):
            raise Missing("this Kamailio has no app_python3s") from None
        raise


def ini(place: Place, code: str) -> None:
    """A unit of systemd, or a part of one."""
    if "ExecStart=" not in code:
        code += "ExecStart=/usr/bin/env\n" if "[Service]" in code else "[Service]\nExecStart=/usr/bin/env\n"
    code = re.sub(r"^ExecStart=\S+", "ExecStart=/usr/bin/env", code, flags=re.MULTILINE)
    if shutil.which("systemd-analyze") is None:
        raise Missing("systemd-analyze is not installed")
    said = place.must("systemd-analyze", "verify", "--man=no", str(place.file("page.service", code)))
    if said:
        raise Failed(said)


def yaml(place: Place, code: str) -> None:
    """Read by Debian's own YAML, where it is installed."""
    if place.run(PYTHON, "-c", "import yaml").returncode:
        raise Missing("python3-yaml is not installed")
    program = "import sys, yaml; assert isinstance(yaml.safe_load(open(sys.argv[1])), dict)"
    place.must(PYTHON, "-c", program, str(place.file("page.yaml", code)))


KINDS = {"python": python, "sh": sh, "console": console, "cfg": cfg, "ini": ini, "yaml": yaml}


def main() -> None:
    blocks = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    place = Place()
    results = []
    try:
        place.prepare()
        place.start_server()
        for block in blocks:
            try:
                run_block(place, block)
            except Missing as error:
                results.append(f"{SKIPPED}{error}")
            except (Failed, subprocess.TimeoutExpired, OSError) as error:
                results.append(f"{error}\n--- log of the server ---\n{(place.folder / '.log').read_text()[-3000:]}")
            else:
                results.append("")
    finally:
        Path(sys.argv[2]).write_text(json.dumps(results), "utf-8")
        shutil.rmtree(place.folder)


if __name__ == "__main__":
    main()
