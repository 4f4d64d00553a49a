# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts a Kamailio with some modules in a private folder, asks it what KEMI has, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any, NamedTuple

from kemi.testing.stubgen import probe, recipes

START_WITHIN = 15.0  # seconds
STOP_WITHIN = 5.0
LIST = "app_python.api_list"
_PROBLEM = re.compile(r"\b(ERROR|CRITICAL|ALERT): (.*)")


class StubgenError(Exception):
    """The stubs cannot be made; says why."""


class Answer(NamedTuple):
    """What one server told."""

    tables: list[dict[str, Any]] | None  # None: app_python3 itself could not start
    names: dict[str, list[str]]
    listed: list[dict[str, str]] | None  # None: the server did not start
    why: str


def ask(module: str) -> Answer:
    """Start a server with `module` and what it needs, ask it, and end it."""
    folder = tempfile.mkdtemp(prefix="ksr-")
    try:
        with _running(module, folder) as process:
            listed = _listed(process, folder)
        with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as file:
            why = "" if listed is not None else _reason(file.read(), folder)
        found: dict[str, Any] = {"tables": None, "dir": {}}
        with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, "probe"), encoding="utf-8") as file:
            found = json.load(file)
        return Answer(found["tables"], found["dir"], listed, why)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _running(module: str, folder: str) -> Any:
    config = os.path.join(folder, "kamailio.cfg")
    with open(config, "w", encoding="utf-8") as file:
        file.write(config_text(module, folder, _free_port()))
    recipes.prepare(module, folder)
    environment = {**os.environ, "KSR_PROBE": os.path.join(folder, "probe"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [program(), "-f", config, "-Y", folder, "-w", folder, "-DD", "-E", "-m", "64"]
    with open(os.path.join(folder, "log"), "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop; its process group is gone afterwards, whatever it does."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with contextlib.suppress(FileNotFoundError):  # what a library of the mongodb modules leaves behind
        os.unlink(f"/dev/shm/mongoc-{process.pid}")  # noqa: S108 its name


def config_text(module: str, folder: str, port: int) -> str:
    """A kamailio.cfg with app_python3 first, then what the module needs, then the module."""
    names = ["app_python3", "jsonrpcs", *recipes.needs(module)]
    lines = [
        "#!KAMAILIO",
        "debug=1",
        "children=1",
        "tcp_children=1",
        "auto_aliases=no",
        "dns=no",
        f"listen=udp:127.0.0.1:{port}",
        *recipes.CORE.get(module, ()),
        *(f'loadmodule "{name}.so"' for name in names),
        f'modparam("app_python3", "load", "{os.path.abspath(probe.__file__)}")',
        f'modparam("jsonrpcs", "fifo_name", "{folder}/rpc")',
        f'modparam("jsonrpcs", "fifo_reply_dir", "{folder}/")',  # put before the reply's name as it is
        'modparam("jsonrpcs", "transport", 2)',
        *(line.format(folder=folder, port=port) for name in names for line in recipes.PARAMS.get(name, ())),
        "request_route { exit; }",
        *(line for name in names for line in recipes.EVENTS.get(name, ())),
    ]
    return "\n".join(lines) + "\n"


def _listed(process: subprocess.Popen[bytes], folder: str) -> list[dict[str, str]] | None:
    """What the running server lists; None if it ends instead of starting."""
    reply = os.path.join(folder, "reply")
    os.mkfifo(reply)
    request = json.dumps({"jsonrpc": "2.0", "method": LIST, "id": 1, "reply_name": "reply"}) + "\n"
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            command = os.open(os.path.join(folder, "rpc"), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # not made yet, or nobody reads it yet
            time.sleep(0.05)
            continue
        answer = os.open(reply, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.write(command, request.encode())
            text = _read_all(answer, process, deadline)
        finally:
            os.close(command)
            os.close(answer)
        if text:
            return [row["func"] for row in json.loads(text)["result"]["methods"]]
    return None


def _read_all(answer: int, process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Everything that is written until the writer closes; b"" if nothing comes."""
    data = b""
    while time.monotonic() < deadline and process.poll() is None:
        ready, _, _ = select.select([answer], [], [], 0.1)
        part = b""
        if ready:
            with contextlib.suppress(BlockingIOError):
                part = os.read(answer, 1 << 16)
        if not part and data:
            return data
        if not part:
            time.sleep(0.01)
        data += part
    return b""


def _reason(log: str, folder: str) -> str:
    """The first problem in a log that says something, without what differs from run to run."""
    problems = [found.group(2) for found in map(_PROBLEM.search, log.splitlines()) if found]
    text = next((line for line in problems if not line.startswith("jsonrpcs ")), "it ended without a word")
    text = re.sub(r"\[[^]]*:\d+\]: | - dlerror: .*", "", text).replace(folder, "FOLDER")  # 6.0 writes no text there
    return re.sub(r"\s+", " ", re.sub(r"0x[0-9a-f]+|\b\d{4,}\b", "N", text)).strip()[:160]


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


def program() -> str:
    """The server's path. Raises StubgenError."""
    path = shutil.which("kamailio", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if path is None:
        raise StubgenError("kamailio is not installed: the stubs are made from a running server")
    return path


def version() -> str:
    """As `kamailio -v` says it: 5.6.3."""
    text = subprocess.run([program(), "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    found = re.search(r"version: kamailio (\S+)", text)
    if found is None:
        raise StubgenError(f"{program()} -v tells no version: {text[:100]!r}")
    return found.group(1)


def modules_folder() -> str:
    """Where the modules lie: what the server was built with."""
    text = subprocess.run([program(), "-I"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"MODS_DIR \"([^\"]+)\"", text.stdout + text.stderr)
    folders = [found.group(1)] if found else []
    for folder in [*folders, *_debian_folders()]:
        if os.path.isdir(folder):
            return folder
    raise StubgenError("the folder with Kamailio's modules was not found: name it with --modules")


def _debian_folders() -> list[str]:
    return [f"/usr/lib/{name}/kamailio/modules" for name in sorted(os.listdir("/usr/lib"))]


def installed_modules(folder: str) -> list[str]:
    """The names of all modules in a folder. Raises StubgenError."""
    try:
        return sorted(name[:-3] for name in os.listdir(folder) if name.endswith(".so"))
    except OSError as error:
        raise StubgenError(f"cannot read the modules in {folder}: {error.strerror}") from None
