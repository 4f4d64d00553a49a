"""RPC over Kamailio's own transports with the real clients, beside the C module: the same answers, byte for byte."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Reachable
from tests.server.transports import Binrpc, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server.harness import Servers
    from tests.server.transports import Client, Printed

# The last one defined comes first in get_sizes.
DEFINITIONS = ["name=q", "name=empty", "name=123", "name=caf\u00e9"]
ITEMS = [
    ("q", "k1", "v1"),
    ("q", "cl\u00e9", "\u00fcml\u00e4ut \u20ac \U0001f4de"),
    ("123", "1", "2"),
    ("caf\u00e9", "k", "v"),
    ("q", 'quo"te\\', "line\n\ttab\r\b\f \x01\x1f\x7f /"),
    ("q", "007", "0"),
]
CASES: list[list[str]] = [
    ["mqueue.get_size", "q"],
    ["mqueue.get_size", "empty"],
    ["mqueue.get_size", "nosuch"],
    ["mqueue.get_size"],
    ["mqueue.get_size", ""],
    ["mqueue.get_size", "caf\u00e9"],
    ["mqueue.get_sizes"],
    ["mqueue.get_sizes", "more", "than", "it takes"],
    *[["mqueue.fetch", "q"]] * 4,
    ["mqueue.fetch", "q"],
    ["mqueue.fetch", "empty"],
    ["mqueue.fetch", "nosuch"],
    ["mqueue.fetch"],
    ["mqueue.fetch", ""],
    ["mqueue.get_size", "123"],
    ["mqueue.fetch", "123"],
    ["mqueue.get_size", "s:123"],
    ["mqueue.fetch", "s:123"],
    ["mqueue.fetch", "caf\u00e9"],
]


def pair(servers: Servers, definitions: Sequence[str] = DEFINITIONS) -> list[Reachable]:
    """Start the C module's server and ours, with the same queues and items."""
    both = [servers.start(Reachable(definitions, theirs=theirs)) for theirs in (True, False)]
    for server in both:
        for item in ITEMS:
            server.add_item(*item)
    return both


def without_id(printed: Printed) -> Printed:
    """The clients number their requests by pid or at random."""
    out = re.sub(rb'"id":\s*[0-9]+', b'"id": 1', printed.out)
    return type(printed)(printed.status, out, printed.err)


# --- the table


KAMCLI = 2
TABLE = [0, 1, 2, 3, 4, 6, 8, 13, 14, 15, 16]  # kamcli takes half a second to start


@pytest.mark.parametrize("client", [0, 1, KAMCLI], ids=["kamcmd", "kamctl", "kamcli"])
def test_an_operator_sees_no_difference(servers: Servers, client: int) -> None:
    """The real program prints the same, and exits with the same status, case by case."""
    pairs = [server.clients[client] for server in pair(servers)]
    fault = pairs[0].fault()
    if fault:
        pytest.skip(f"this system's program does not run: {fault}")
    cases = [CASES[at] for at in TABLE] if client == KAMCLI else CASES
    text = b""

    def run_all(one: Client) -> list[Printed]:
        return [without_id(one.run(*case)) for case in cases]

    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(run_all, pairs)
    for case, wanted, found in zip(cases, theirs, ours):
        assert found == wanted, case
        text += wanted.out + wanted.err
    for word in (b"k1", b"v1", b"Empty queue", b"No such queue", b"No queue name"):
        assert word in text, "the cases do not reach what they should"


@pytest.mark.parametrize("way", [0, 1, 2], ids=["HTTP", "datagram", "FIFO"])
def test_a_program_sees_no_difference(servers: Servers, way: int) -> None:
    """The same JSON document comes back, byte for byte."""
    theirs, ours = (server.json[way] for server in pair(servers))
    answers = []
    for method, *params in CASES:
        document = request(method, params)
        answers.append(theirs.send(document))
        assert ours.send(document) == answers[-1], document
    assert b"Invalid queue name" in answers[4]
    assert json.loads(answers[0])["result"] == {"name": "q", "size": 4}
    assert [one["name"] for one in json.loads(answers[6])["result"]] == ["caf\u00e9", "123", "empty", "q"]
    assert json.loads(answers[10])["result"] == {"key": 'quo"te\\', "val": "line\n\ttab\r\b\f \x01\x1f\x7f /"}


def test_ctl_carries_the_same_bytes(servers: Servers) -> None:
    """Also the kinds of the records are the same, so other programs than kamcmd see no difference."""
    theirs, ours = pair(servers)
    with Binrpc(theirs.control) as one, Binrpc(ours.control) as other:
        for case in CASES:
            assert other.send(*case) == one.send(*case), case
        for wrong in (["mqueue.get_size", 123], ["mqueue.fetch", 5], ["mqueue.get_size", "q", "and", "more"]):
            assert other.send(*wrong) == one.send(*wrong), wrong


def test_the_id_of_a_request(servers: Servers) -> None:
    """Whatever a program numbers its requests with, both answer alike."""
    theirs, ours = pair(servers)
    numbers: list[object] = [7, "seven", "a" * 200, 0, -3, 1.5, 1e30, None, True, [], {}, {"id": 1}]
    for number in numbers:
        for method in ("mqueue.get_size", "mqueue.nosuch"):
            document = request(method, ["q"], number)
            assert [way.send(document) for way in ours.json] == [way.send(document) for way in theirs.json], document


def test_no_queue_at_all(servers: Servers) -> None:
    """An empty list in JSON, nothing from kamcmd."""
    both = [servers.start(Reachable([], theirs=theirs)) for theirs in (True, False)]
    for ways in zip(*(server.json for server in both)):
        wanted, found = (way.send(request("mqueue.get_sizes")) for way in ways)
        assert found == wanted
        assert json.loads(found)["result"] == []
    wanted, found = (server.clients[0].run("mqueue.get_sizes") for server in both)
    assert (found, found.out) == (wanted, b"")
