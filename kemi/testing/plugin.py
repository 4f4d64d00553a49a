# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin: the fixtures `ksr` and `kamailio`, and the option that says which release the fake is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import pytest

from kemi.testing import release
from kemi.testing.fake import FakeKSR

if TYPE_CHECKING:
    from collections.abc import Iterator

_HELP = "which Kamailio the fake KSR is: 5.6 or 6.0 (default: the one that is installed, else the newest)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--kamailio 6.0, or a line `kamailio = 6.0` in the ini file."""
    parser.addini("kamailio", _HELP)
    parser.addoption("--kamailio", metavar="RELEASE", help=_HELP)


def pytest_configure(config: pytest.Config) -> None:
    """Let each fake of this session be what the option says."""
    chosen = config.getoption("--kamailio") or config.getini("kamailio") or None
    if chosen is None:
        return
    try:
        release.ask(str(chosen))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.add_cleanup(lambda: release.ask(None))


@pytest.fixture
def kamailio() -> Optional[str]:  # noqa: UP045 pytest evaluates it
    """The release that the fixture `ksr` is; override it, or parametrize a test with it, for another one."""
    return None


@pytest.fixture
def ksr(request: pytest.FixtureRequest) -> Iterator[FakeKSR]:
    """A fake KSR, which `import KSR` gives during the test; queues are private to the test and end with it."""
    try:
        chosen = request.getfixturevalue("kamailio")
    except pytest.FixtureLookupError:
        chosen = None
    with FakeKSR(kamailio=chosen if isinstance(chosen, str) else None).installed() as fake:
        yield fake
