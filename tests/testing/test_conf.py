"""The example of conf/ without Kamailio: what each request is answered, and what the queue gets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.testing import Script, run_route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kemi.testing import FakeKSR

CONF = Path(__file__).parents[2] / "conf"
SCRIPT = CONF / "kamailio.py"


@pytest.fixture
def script(ksr: FakeKSR) -> Iterator[Script]:
    """The example, loaded in one worker."""
    with Script(SCRIPT, ksr) as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("method", "code", "reason"), [("INVITE", 480, "We will call back"), ("MESSAGE", 202, "Accepted")]
)
def test_a_caller_is_queued(method: str, code: int, reason: str) -> None:
    result = run_route(SCRIPT, f"{method} sip:bob@example.org\nFrom: Alice <sip:alice@example.org>;tag=1")
    assert [(reply.code, reply.reason, reply.by) for reply in result.replies] == [(code, reason, "tm")]
    assert result.queues == {"myq": [("bob", "call from alice")]}
    assert result.returned == 1
    assert result.log == ()


@pytest.mark.parametrize(("method", "code"), [("OPTIONS", 200), ("BYE", 481), ("REGISTER", 405), ("SUBSCRIBE", 405)])
def test_what_is_not_queued(script: Script, method: str, code: int) -> None:
    result = script.request(f"{method} sip:bob@example.org")
    assert [reply.code for reply in result.replies] == [code]
    assert result.queues == {"myq": []}


def test_what_is_allowed_is_told(script: Script) -> None:
    reply = script.request("REGISTER sip:example.org").replies[0]
    assert reply.headers == ("Allow: INVITE, ACK, CANCEL, BYE, MESSAGE, OPTIONS\r\n",)


@pytest.mark.parametrize(("known", "codes"), [(1, [200]), (-1, [481])])
def test_a_cancel(script: Script, ksr: FakeKSR, known: int, codes: list[int]) -> None:
    """Whether there is a transaction, only the test knows."""
    ksr.stub("tm.t_check_trans", known)
    assert [reply.code for reply in script.request("CANCEL sip:bob@example.org").replies] == codes


def test_an_ack_is_not_answered(script: Script, ksr: FakeKSR) -> None:
    ksr.stub("tm.t_check_trans", -1)
    assert script.request("ACK sip:bob@example.org").replies == ()
    assert ksr.called("tm.t_check_trans") == [()]


def test_a_repetition_is_not_queued(script: Script, ksr: FakeKSR) -> None:
    ksr.stub("tm.t_newtran", 0)
    result = script.request("INVITE sip:bob@example.org")
    assert result.queues == {"myq": []}
    assert result.replies == ()


def test_no_room_is_503(tmp_path: Path) -> None:
    """mq_add says why in the log, and the caller hears of it."""
    (tmp_path / "conf").mkdir()
    full = tmp_path / "conf/kamailio.py"
    full.write_text(SCRIPT.read_text("utf-8").replace('f"name={QUEUE}"', 'f"name={QUEUE};maxbytes=10"'), "utf-8")
    result = run_route(full, "INVITE sip:bob@example.org")
    assert [reply.code for reply in result.replies] == [503]
    assert "not added" in result.text


def test_names_that_are_no_text(script: Script, ksr: FakeKSR) -> None:
    def fail(_name: str) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    ksr.stub("pv.gete", fail)
    assert [reply.code for reply in script.request("INVITE sip:bob@example.org").replies] == [400]


def test_two_timers_take_the_callers(script: Script) -> None:
    """In the order of their calls, each caller once."""
    for user in ("a", "b"):
        script.request(f"INVITE sip:{user}@example.org")
    result = script.timer("ksr_consume_a")
    assert result.text == "consumer a: a - call from caller\nconsumer a: b - call from caller\n"
    assert result.queues == {"myq": []}
    assert script.timer("ksr_consume_b").log == ()


def test_a_reload_keeps_the_queue(script: Script) -> None:
    script.request("INVITE sip:a@example.org")
    script.reload()
    assert script.request("INVITE sip:b@example.org").queues == {
        "myq": [("a", "call from caller"), ("b", "call from caller")]
    }
