"""What public scripts do runs on the fake: on either release, without a word from the test."""

from __future__ import annotations

import re

import pytest

from kemi.testing import FakeKSR, NotCovered, release
from tests.testing.idioms import IDIOMS, SERVICES

LEAST = 0.9  # of all, on each release


@pytest.mark.parametrize("kamailio", release.known())
def test_idioms_run(ksr: FakeKSR, kamailio: str) -> None:
    """tests/server compares their results with the real server's."""
    assert ksr.release == kamailio
    missing, count = [], 0
    for case in IDIOMS.values():
        text = case.message.format(mark="c0", port=5060)
        ksr.receive(text)
        ksr.stub("mqueue.*")
        for expression in case.expressions:
            count += 1
            try:
                eval(expression, {"KSR": ksr.module})  # noqa: S307 ours
            except NotCovered as error:
                missing.append(f"{expression}: {error}")
    assert count >= 200
    assert len(missing) <= count * (1 - LEAST), "\n".join(missing)


@pytest.mark.parametrize("expression", SERVICES)
@pytest.mark.parametrize("kamailio", release.known())
def test_what_needs_a_service(ksr: FakeKSR, kamailio: str, expression: str) -> None:
    """As where it is there and answers; what has to be in a table is not in it."""
    method, wanted = SERVICES[expression]
    ksr.receive(f"{method} {'/' if method == 'GET' else 'sip:bob@127.0.0.1'}")
    assert eval(expression, {"KSR": ksr.module}) == wanted, kamailio  # noqa: S307 ours


def test_functions_and_variables_that_they_use() -> None:
    """So many different ones, of which a script may be made."""
    text = "\n".join([*(line for case in IDIOMS.values() for line in case.expressions), *SERVICES])
    assert len(set(re.findall(r"KSR\.((?:\w+\.)?\w+)\(", text))) >= 250
    assert len(set(re.findall(r"\$\(?([A-Za-z_]+)", text))) >= 60
