"""What every test gets: the long forms behind --stress, and a clean /dev/shm after each test."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from kemi.queue import waiting
from kemi.queue.client import aio, current
from kemi.queue.kernel import choice
from kemi.queue.sync import eventcount, futex

if TYPE_CHECKING:
    from collections.abc import Iterator

# A test that gives sys.modules back as it was must not take these away: they cannot be imported a second time.
with contextlib.suppress(ImportError):
    import sqlalchemy.dialects.mysql
    import sqlalchemy.dialects.postgresql
    import sqlalchemy.dialects.sqlite  # noqa: F401

CHECKOUT = Path(__file__).parents[1]
SHM = Path("/dev/shm")

HANG = 60.0  # seconds; nothing that works takes half as long, whatever else the machine does

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("stress", deadline=None, max_examples=2000, stateful_step_count=200)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stress", action="store_true", help="run the long forms too")


def pytest_configure(config: pytest.Config) -> None:
    """Choose how long random programs run: the same ones on every CI run, new ones elsewhere."""
    name = "stress" if config.getoption("stress") else "ci" if os.environ.get("CI") else "default"
    settings.load_profile(name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:  # noqa: ARG001 - the hook's own
    """One process more than there are processors: half of what tests do is to wait for others."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long forms out unless they are asked for."""
    if config.getoption("stress"):
        return
    long = [item for item in items if item.get_closest_marker("stress")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture
def stress(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for."""
    return bool(request.config.getoption("stress"))


@pytest.fixture(autouse=True)
def _python_code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have queues without the native kernel where a test takes parts of the Python code away, or counts its steps."""
    if choice.lib is not None and request.node.get_closest_marker("python_code"):
        monkeypatch.setenv("MQUEUE_KEMI_KERNEL", "pure")
        monkeypatch.setattr(choice, "attach", lambda _queue, _segment: None)


@pytest.fixture
def only_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody who waits look by himself, in this process or one forked from it: who is not called sleeps on."""
    for module, name in (
        (eventcount, "RECHECK"),
        (waiting, "RECHECK"),
        (current, "LOOK"),
        (aio, "_SLEEP"),
        (futex, "SLICE"),
    ):
        monkeypatch.setattr(module, name, 10 * HANG)
    monkeypatch.setattr(futex, "FIRST_SLICES", ())


@pytest.fixture
def readable(tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the code where every user may read it."""
    folder = Path("/tmp", f"mqk-code-{os.getpid()}-{tmp_path.name}")
    folder.mkdir(mode=0o755)
    shutil.copytree(CHECKOUT / "kemi", folder / "kemi", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "mqueue_kemi.py", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user may write to, which pytest's are not, and no pytest beside this one changes."""
    with tempfile.TemporaryDirectory(prefix="mqk-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def segments() -> set[str]:
    """The names of this run's queue segments: others may run beside it."""
    return {path.name for path in SHM.glob(f"mqk.*-{os.getpid()}-*")}


@pytest.fixture(autouse=True)
def _no_segment_is_left() -> Iterator[None]:
    """Fail a test that leaves a segment behind, or removes another one's."""
    before = segments()
    yield
    assert segments() == before
