"""`ask` in app_python3s, Kamailio 6's other module that runs scripts: the same tests as of app_python3."""

from __future__ import annotations

import pytest

from tests.server import harness
from tests.server.harness import has_module
from tests.server.test_ask import (  # noqa: F401 they run here too
    test_a_caller_who_cancels,
    test_a_reload_keeps_what_waits,
    test_a_route_that_asks_again,
    test_after_a_kill_nothing_stale_comes,
    test_an_answer_a_failure_and_the_timeout,
    test_an_answer_before_the_route_ended,
    test_asking_in_a_failure_route,
    test_several_answers_processes,
    test_the_backstop,
    test_without_an_answers_process,
)

pytestmark = pytest.mark.skipif(not has_module("app_python3s"), reason="this Kamailio has no app_python3s")


@pytest.fixture(autouse=True)
def _single(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "EMBEDDER", "app_python3s")
