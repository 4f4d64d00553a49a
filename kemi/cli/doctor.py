# SPDX-License-Identifier: GPL-2.0-or-later
"""`doctor`: what a bug report needs, and nothing of what is in the queues.

Each part is found out by itself. What fails is told in its place: a host in trouble is where this is run.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kemi import host
from kemi.cli.call import Call
from kemi.cli.usage.codes import DONE
from kemi.errors import MqueueError
from kemi.names import DB_URL_VARIABLE, INSTANCE_VARIABLE, KERNEL_VARIABLE, OWNER_VARIABLE, VERSION
from kemi.queue.catalog.view import InstanceView, QueueView, look_at_lock
from kemi.queue.format import layout
from kemi.queue.format.statistics import numbers_of
from kemi.queue.kernel import choice
from kemi.queue.shm.naming import PREFIX, SHM_DIR, answers_name, path_of, segment_name
from kemi.text import printable

_PACKAGES = ("SQLAlchemy", "PyMySQL", "psycopg", "psycopg2", "psycopg2-binary", "rich", "prometheus_client")
_LIMITS = {"descriptors": "NOFILE", "address space": "AS", "file size": "FSIZE", "locked memory": "MEMLOCK"}
_ANSWERS_WITHIN = 10.0  # seconds, for other programs
_VARIABLES = (INSTANCE_VARIABLE, OWNER_VARIABLE, KERNEL_VARIABLE, "MQUEUE_KEMI_CFG", "PYTHONPATH", "PATH")


def doctor(call: Call) -> int:
    """`doctor`."""
    found = {name: _tried(part) for name, part in _PARTS.items()}
    if call.arguments.json:
        call.as_json(found)
    else:
        for line in _lines(found):
            call.output.line(line)
    return DONE


def _tried(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except (MqueueError, OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        return f"cannot be found out: {type(error).__name__}: {error}"


# --- the parts --------------------------------------------------------------------------------------------------------


def _versions() -> dict[str, object]:
    return {
        "mqueue_kemi": VERSION,
        "from": os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        "memory format": layout.VERSION,
        "kernel": choice.description(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python program": sys.executable,
        "kamailio": _tried(_kamailio),
        "packages": _packages(),
    }


def _kamailio() -> str:
    program = shutil.which("kamailio", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")
    if program is None:
        return "not found"
    argv = [program, "-v"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_ANSWERS_WITHIN, check=False)  # noqa: S603
    return (done.stdout.splitlines() or ["does not answer"])[0]


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _system() -> dict[str, object]:
    return {
        "system": _tried(_distribution),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "c library": " ".join(platform.libc_ver()),
        "processors": os.cpu_count(),
        "user": f"{os.geteuid()}, groups {' '.join(map(str, os.getgroups()))}",
        "pid namespace": _tried(lambda: os.readlink("/proc/self/ns/pid")),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "database url": f"{DB_URL_VARIABLE} is {'set' if os.environ.get(DB_URL_VARIABLE) else 'not set'}",
    }


def _distribution() -> str:
    with open("/etc/os-release", encoding="utf-8") as file:
        return next(line.partition("=")[2].strip('"\n') for line in file if line.startswith("PRETTY_NAME="))


def _limits() -> dict[str, object]:
    room = os.statvfs(SHM_DIR)
    found: dict[str, object] = {
        "size of /dev/shm": room.f_blocks * room.f_frsize,
        "free in /dev/shm": room.f_bavail * room.f_frsize,
        "rights of /dev/shm": _tried(lambda: _rights(SHM_DIR)),
        "protected hard links": _tried(lambda: _first_line("/proc/sys/fs/protected_hardlinks")),
        "memory": _tried(_memory),
        "memory of the cgroup": _tried(_cgroup),
        "overcommit": _tried(lambda: _first_line("/proc/sys/vm/overcommit_memory")),
    }
    for name, limit in _LIMITS.items():
        number = resource.getrlimit(getattr(resource, f"RLIMIT_{limit}"))[0]
        found[name] = "unlimited" if number == resource.RLIM_INFINITY else number
    return found


def _memory() -> dict[str, int]:
    with open("/proc/meminfo", encoding="ascii") as file:
        numbers = dict(line.split(":") for line in file)
    return {name: int(numbers[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable", "SwapTotal")}


def _cgroup() -> str:
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        path = next(line.strip().split("::")[1] for line in file if line.startswith("0::"))
    while True:
        try:
            return f"{_first_line(f'/sys/fs/cgroup{path}/memory.max')} in {path}"
        except OSError:
            if path == "/":
                return "no limit is told"
            path = os.path.dirname(path)


def _first_line(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline().strip()


def _instances() -> list[dict[str, object]]:
    return [_instance(found) for found in host.find_all()]


def _instance(found: host.Found) -> dict[str, object]:
    owner = found.owner()
    about: dict[str, object] = {"name": found.name, "server": found.state(), "pid": owner.pid if owner else None}
    if isinstance(found.view, InstanceView):
        about |= {"max memory": found.view.max_memory, "memory": found.view.memory}
    else:
        about["error"] = str(found.view)
    about["file"] = _tried(lambda: _file(segment_name(found.name)))
    about["queues"] = [_queue(found.name, name, view) for name, view in found.queues.items()]
    return about


def _queue(instance: str, name: str, view: QueueView | MqueueError) -> dict[str, object]:
    about: dict[str, object] = {"name": name, "file": _tried(lambda: _file(segment_name(instance, name)))}
    if isinstance(view, MqueueError):
        return {**about, "error": str(view)}
    return {**about, "lock": _tried(lambda: _lock(instance, name)), **numbers_of(view.stats)}


def _file(segment: str) -> str:
    path = path_of(segment)
    return f"{_rights(path)} {os.stat(path, follow_symlinks=False).st_size} bytes"


def _rights(path: str) -> str:
    status = os.stat(path, follow_symlinks=False)
    return f"{stat.filemode(status.st_mode)} user {status.st_uid} group {status.st_gid}"


def _lock(instance: str, queue: str) -> str:
    thread = look_at_lock(instance, queue)
    if not thread:
        return "free"
    try:
        with open(f"/proc/{thread}/status", encoding="utf-8") as file:
            state = next(line for line in file if line.startswith("State:"))
    except OSError:
        return f"held by thread {thread}, which is not there"
    return f"held by thread {thread}, {state.partition(':')[2].strip()}"


def _other_files() -> list[str]:
    """What has our names and is neither an instance, nor a queue of users or answers: drafts, and what is no name."""
    known = {segment_name(name) for name in host.names()}
    known |= {segment_name(name, queue) for name, queues in host.names().items() for queue in queues}
    known |= {answers_name(segment_name(name, "x"), n) for name in host.names() for n in range(layout.MAX_SHARDS)}
    return sorted(file for file in os.listdir(SHM_DIR) if file.startswith(PREFIX) and file not in known)


_PARTS: dict[str, Callable[[], Any]] = {
    "versions": _versions,
    "system": _system,
    "limits": _limits,
    "instances": _instances,
    "other files": _other_files,
}


# --- as text ----------------------------------------------------------------------------------------------------------


def _lines(value: object, indent: str = "", name: str = "") -> list[str]:
    """Return lines of text: a name and a value, what is below it indented."""
    if isinstance(value, Mapping):
        inside = [line for key, one in value.items() for line in _lines(one, indent + "  " * bool(name), str(key))]
        return [f"{indent}{printable(name)}:", *inside] if name else inside
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            return [f"{indent}{printable(name)}: none"]
        below = indent + "  "
        return [f"{indent}{printable(name)}:", *(line for one in value for line in _lines(one, below, _title(one)))]
    return [f"{indent}{printable(name)}: {printable(str(value))}"]


def _title(one: object) -> str:
    return str(one["name"]) if isinstance(one, Mapping) else "file"
