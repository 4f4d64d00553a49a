# SPDX-License-Identifier: GPL-2.0-or-later
"""The command work: run workers, which are functions with `@worker` above them."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kemi.cli import signals
from kemi.cli.call import Call, Failure
from kemi.cli.usage.codes import NO_PACKAGE, USAGE
from kemi.names import OWNER_VARIABLE
from kemi.text import one_line
from kemi.worker.worker import Worker, run

if TYPE_CHECKING:
    from types import ModuleType

_SHOWN = 10  # names in an error


def work(call: Call) -> int:
    """`work MODULE:FUNCTION...`; the module may be a file, like conf/calls.py."""
    arguments = call.arguments
    _log_to_stderr(arguments.log_format)
    workers = [_worker(text) for text in arguments.functions]
    where = arguments.where or arguments.instance
    if arguments.owner:
        os.environ[OWNER_VARIABLE] = arguments.owner
    if "://" not in where:
        arguments.instance = where
        call.become_owner()
    beside = []
    if arguments.metrics is not None:
        from kemi.cli.workmetrics import server

        beside.append(server(*arguments.metrics))
    # What came before it minds signals itself was noted by the command.
    return run(*workers, where=where, grace=arguments.grace, stop=signals.pending, beside=beside)


# --- functions --------------------------------------------------------------------------------------------------------


def _worker(text: str) -> Worker[..., Any]:
    """The worker of a text like module:function. Raises Failure."""
    name, colon, function = text.partition(":")
    if not colon or not name or not function:
        found = "" if colon or not text or text.endswith(".py") else _there(_module(text), text)
        raise Failure(USAGE, f"{text!r} is no MODULE:FUNCTION; write for instance calls:write{found}")
    module = _of_file(name) if name.endswith(".py") else _module(name)
    value: Any = module
    for part in function.split("."):
        value = getattr(value, part, None)
    if isinstance(value, Worker):
        return value
    if value is None:
        raise Failure(USAGE, f"module {name!r} has no {function!r}{_there(module, name)}")
    if callable(value):
        raise Failure(
            USAGE,
            f'{text} is no worker: write @worker("QUEUE") above that function, with `from mqueue_kemi import worker`',
        )
    raise Failure(USAGE, f"{text} is no worker but {type(value).__name__}{_there(module, name)}")


def _there(module: ModuleType, name: str) -> str:
    """The end of an error: the workers of a module."""
    found = sorted(key for key, value in vars(module).items() if isinstance(value, Worker))
    return f"; its workers: {', '.join(f'{name}:{key}' for key in found[:_SHOWN])}" if found else "; it has no worker"


def _of_file(path: str) -> ModuleType:
    """The module of a file, whose folder is the first where it finds others, as `python3 FILE` does."""
    folder, file = os.path.split(os.path.abspath(path))
    if not os.path.isfile(os.path.join(folder, file)):
        raise Failure(USAGE, f"there is no file {path!r}; write where it is, or a module as import does, calls:write")
    sys.path.insert(0, folder)
    module = _module(file[: -len(".py")])
    found = os.path.abspath(getattr(module, "__file__", None) or "")
    if not os.path.samefile(os.path.join(folder, file), found):
        raise Failure(USAGE, f"{path!r}: its name is that of the module {found}, which Python finds first; rename it")
    return module


def _module(name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)  # as `python3 -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing and (name == missing or name.startswith(f"{missing}.")):
            raise Failure(
                USAGE,
                f"there is no module {missing!r} in {folder} or on Python's path; go to its folder, or set PYTHONPATH",
            ) from None
        raise Failure(
            NO_PACKAGE, f"module {name!r} needs {missing!r}, which is not installed for {sys.executable}"
        ) from None
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError) and not name.strip("."):
            raise Failure(USAGE, f"{name!r} is no name of a module") from None
        raise Failure(USAGE, _raised(name, error)) from None
    except Exception as error:  # noqa: BLE001 - a module may raise anything
        raise Failure(USAGE, _raised(name, error)) from None


def _raised(name: str, error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError):
        place = f" at {error.filename}:{error.lineno}"
    return f"module {name!r} cannot be imported{place}: {type(error).__name__}: {one_line(str(error))}"


# --- logs -------------------------------------------------------------------------------------------------------------


class _Json(logging.Formatter):
    """A line is an object: time, level, message, pid; of an item also queue, item, deliveries, action, after."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    """A line for people; a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        lines = [f"{moment} {record.levelname.lower()} [{record.process}] {one_line(record.getMessage())}"]
        if record.exc_info and record.exc_info[0] is not None:
            lines += _indented(self.formatException(record.exc_info).splitlines())
        return "\n".join(lines)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _log_to_stderr(form: str) -> None:
    """What workers log, and what their functions log, goes to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
