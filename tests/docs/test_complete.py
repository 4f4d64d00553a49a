"""The reference has everything that there is, and what it shows of a table is what the program has."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from kemi import spec
from kemi.cli import metrics, workmetrics
from kemi.cli.usage.commands import parser
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.format.outcome import AddResult, Stats
from kemi.worker.worker import _OPTIONS
from tests.docs import pages
from tests.docs.pages import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULE = pages.text_of("docs/reference/module.md")
API = pages.text_of("docs/reference/queue-api.md")
# What a process outside is not meant to call.
INSIDE = {
    "add_record",
    "pop",
    "pop_wait",
    "pop_if",
    "reserve_some",
}


OF_WORKERS = {"Failure", "Reject", "Retry", "Running", "Tally", "Worker", "arun", "run", "worker"}


def missing(names: Iterable[str], text: str) -> list[str]:
    """Return the names that do not stand in a page as words."""
    return [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]


def test_every_parameter() -> None:
    assert missing(spec._PARAMETERS, MODULE) == []


def test_every_attribute_has_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| *(\w*) *\| ", MODULE, re.MULTILINE))
    defaults = {name: str(value) for name, value in spec.QueueSpec("")._asdict().items()}
    assert {name: rows.get(name) for name in defaults} == defaults


@pytest.mark.parametrize("heading", ["db_url", "mqueue", "instance", "max_memory", "lock_timeout", "core", "mode"])
def test_a_parameter_has_a_default_and_an_example(heading: str) -> None:
    (section,) = re.findall(rf"^### 3\.\d+\. {heading}[ ,(].*?(?=^##)", MODULE, re.MULTILINE | re.DOTALL)
    assert "Default: " in section
    assert f'modparam("mqueue", "{heading}"' in section


def test_every_function_and_variable() -> None:
    functions = [name for name in mqueue_kemi.__all__ if name.startswith(("mq_", "mqk_", "mqv_"))]
    assert missing(functions, MODULE) == []
    for text in ("$mqk(", "$mqv(", "$mq_size("):
        assert text in MODULE


def test_every_rpc_command() -> None:
    source = (CHECKOUT / "kemi" / "server" / "rpc.py").read_text("utf-8")
    commands = set(re.findall(r'"(mqueue\.\w+)"', source))
    assert len(commands) == 7
    assert missing(commands, MODULE) == []


def test_every_error_and_result() -> None:
    kinds = {name: getattr(mqueue_kemi, name) for name in mqueue_kemi.__all__}
    errors = [name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Exception)]
    outside = set(errors) - {"InstanceInUse", "SegmentMissing", "MqueueError"} - OF_WORKERS
    assert missing(outside, API) == []
    assert missing(AddResult.__members__, API) == []
    assert missing([field.name for field in fields(Stats)], API) == []


def test_every_name_and_option_of_workers() -> None:
    text = pages.text_of("docs/reference/workers.md")
    assert missing(OF_WORKERS, text) == []
    assert missing(_OPTIONS, text) == []
    assert missing(_named_metrics(), text) == []


def _named_metrics() -> Iterable[str]:
    return (f"{workmetrics.PREFIX}{name}" for name, *_ in (*workmetrics._OF_PROCESSES, *workmetrics._OF_TIMES))


def test_every_call_of_an_attached_queue() -> None:
    """What completion offers there."""
    calls = {name for name in AttachedQueue.__dir__(object.__new__(AttachedQueue)) if not name.startswith("_")}
    assert len(calls) > 15
    assert missing(calls - INSIDE, API) == []


def test_every_command_with_every_name() -> None:
    text = pages.text_of("docs/reference/command-line.md")
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    assert commands.choices is not None
    assert missing(list(commands.choices), text) == []


def test_every_metric() -> None:
    text = pages.text_of("docs/reference/metrics.md")
    for name, kind, _ in metrics._OF_QUEUES.values():
        whole = f"_{name}{'_total' if kind == metrics.COUNTER else ''}`"
        assert whole in text, whole
    assert missing(["mqueue_kemi_up", "mqueue_kemi_build_info"], text) == []


def test_the_figures_of_the_readme_are_those_of_the_bench() -> None:
    found = json.loads((CHECKOUT / "tests" / "bench" / "results" / "slow.json").read_text("utf-8"))["found"]
    text = pages.text_of(pages.README)
    from statistics import median

    from tests.bench.slow import IN_THE_ROUTE, QUEUED

    route = median(one["answered"][-1] for one in found[IN_THE_ROUTE])
    last = median(one["answered"][-1] for one in found[QUEUED])
    done = median(one["done"] for one in found[QUEUED])
    assert f"| {route:.1f} s | {route:.1f} s |" in text
    assert f"| {last:.2f} s | {done:.2f} s |" in text


def test_the_tables_of_the_benchmarks_are_those_of_the_bench() -> None:
    """Each table of the page is one that the bench has written, which may be set wider there."""

    def narrow(text: str) -> str:
        return re.sub(r"--+", "--", re.sub(r" +", " ", text))

    folder = CHECKOUT / "tests" / "bench" / "results"
    written = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.md")))
    lines = pages.text_of("docs/explanation/benchmarks.md").splitlines()
    rows = [line for line in lines if re.match(r"\| [^`|]*\|", line) and line != "| part | what is measured |"]
    lost = [row for row in rows if narrow(row) not in narrow(written)]
    assert lost == []
