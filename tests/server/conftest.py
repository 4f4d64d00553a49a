"""The servers of a test, their logs when it fails, and a check that no process of theirs is left."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Servers
from tests.server.process import MARK, adopt_orphans, environments

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(scope="session", autouse=True)
def _reaper() -> None:
    adopt_orphans()


def descendants() -> list[int]:
    """Return the pids of all processes that descend from a server of this test run."""
    return [pid for pid, environment in environments() if any(MARK in variable for variable in environment)]


@pytest.fixture(autouse=True)
def _no_process_is_left(_no_segment_is_left: None) -> Iterator[None]:
    """Fail a test after which a process of a server still runs."""
    yield
    assert descendants() == []


@pytest.fixture
def servers(_no_process_is_left: None) -> Iterator[Servers]:
    """Return the place where a test starts its servers."""
    with contextlib.ExitStack() as stack:
        yield Servers(stack)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the servers' logs with a failure, before the fixture removes them."""
    report = yield
    servers = getattr(item, "funcargs", {}).get("servers")
    if report.failed and servers is not None:
        for server in servers.all:
            report.sections.append((f"log of {server.instance}", server.process.log()))
    return report
