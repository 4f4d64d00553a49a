# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be said on the command line, and the help."""

from __future__ import annotations

import argparse
import os

from kemi.cli.usage import codes, values
from kemi.cli.usage.parser import OWNER_HELP, Commands, Help, Parser, Version, command
from kemi.names import (
    DB_URL_VARIABLE,
    DEFAULT_INSTANCE,
    ENGINE_PASSWORD_VARIABLE,
    ENGINE_USER_VARIABLE,
    INSTANCE_VARIABLE,
    RELAY_METRICS_VARIABLE,
)

_EXAMPLES = """examples:
  mqueue-kemi instances                         what lies on this host, and whether its server lives
  mqueue-kemi top                               what the queues do, drawn again every second
  mqueue-kemi add myq 1234 'call from alice'
  mqueue-kemi fetch myq --timeout 5             wait at most 5 seconds for an item
  mqueue-kemi consume myq --follow --json | jq -c .
  mqueue-kemi consume myq --follow --exec 'curl -fsS --data-binary @- https://example.org/calls'
  mqueue-kemi drain myq > items.jsonl; mqueue-kemi --instance other fill myq < items.jsonl
  mqueue-kemi stats --prometheus --output /var/lib/prometheus/node-exporter/mqueue.prom

In text output a key, a tab and a value stand on one line; backslash, tab, line ends and what is not printable are
written as \\\\, \\t, \\n, \\r, \\xNN, \\uNNNN. --json gives lines of JSON, which lose nothing.
"""


def parser() -> argparse.ArgumentParser:
    """The parser; `run` of what it returns is the command."""
    whole = Parser(
        prog="mqueue-kemi",
        description="Look at the queues of a Kamailio on this host, put items in and take them out.",
        epilog=f"{_EXAMPLES}\n{codes.as_text()}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action=Version, version="", help="show the version and which kernel runs, and exit")
    default = os.environ.get(INSTANCE_VARIABLE) or DEFAULT_INSTANCE
    whole.add_argument("--instance", type=values.text, default=default, metavar="I", help=_INSTANCE_HELP % default)
    whole.add_argument("--owner", default=None, metavar="USER", help=OWNER_HELP)
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")
    defines = (_define_looking, _define_moving, _define_working, _define_relaying, _define_watching, _define_judging)
    for define in defines:
        define(commands)
    return whole


_INSTANCE_HELP = f"the server's instance; ${INSTANCE_VARIABLE} or %r by default"
_ITEMS = "print items as lines of JSON, which lose nothing"


def _queue(one: argparse.ArgumentParser) -> None:
    one.add_argument("queue", metavar="Q", type=values.text, help="name of the queue")


def _any_queue(one: argparse.ArgumentParser) -> None:
    one.add_argument("queue", metavar="Q", type=values.text, nargs="?", help="name of the queue")


def _reserve(one: argparse.ArgumentParser) -> None:
    text = "leave each item in shared memory until it is delivered, so that not even kill -9 loses it"
    one.add_argument("--reserve", action="store_true", help=text)


def _define_looking(commands: Commands[Parser]) -> None:
    text = "what lies on this host, and whether its server lives"
    command(commands, "instances", "show:instances", text, json="print a list of objects of JSON")
    text = "how many items each queue has"
    command(commands, "sizes", "show:sizes", text, json="print a list of objects of JSON")
    command(commands, "get_size", "show:get_size", "how many items a queue has", _queue)
    command(commands, "peek", "show:peek", "show the oldest items, which stay", _peek, json=_ITEMS)
    command(commands, "stats", "show:stats", "counters and limits of a queue, or of all", _stats, _STATS_MORE, "")


def _peek(one: argparse.ArgumentParser) -> None:
    _queue(one)
    one.add_argument("-n", "--count", type=values.count, default=10, metavar="N", help="how many; 10 by default")


def _stats(one: argparse.ArgumentParser) -> None:
    _any_queue(one)
    form = one.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON: an object, or for all queues a list of them")
    form.add_argument("--prometheus", action="store_true", help="in Prometheus' text format")
    one.add_argument("--output", metavar="FILE", help="with --prometheus: put FILE in place in one step")
    one.add_argument("--all", action="store_true", help="with --prometheus: all instances on this host")


def _define_moving(commands: Commands[Parser]) -> None:
    command(commands, "add", "move:add", "add an item", _add)
    command(commands, "fetch", "move:fetch", "take the oldest item and print it", _fetch, json=_ITEMS)
    text = "print items as lines of JSON; with --exec, give CMD such a line on its standard input"
    command(commands, "consume", "move:consume", "take items and deliver them", _consume, _CONSUME_MORE, text)
    text = "take all items and print them as lines of JSON"
    command(commands, "drain", "move:drain", text, _drain, _JSON_MORE, "allowed, for what it always does")
    command(commands, "fill", "fill:fill", "add items from lines of JSON on standard input", _queue, _JSON_MORE)
    command(commands, "drop", "drop:drop", "take away what a dead server left: an instance, or one queue of it", _drop)
    for name, run, text in (
        ("save", "database:save", "put what a dead server left of a queue into its table"),
        ("load", "database:load", "put the rows of its table into a queue of a dead server"),
    ):
        command(commands, name, run, text, _database, _DB_MORE)


def _add(one: argparse.ArgumentParser) -> None:
    _queue(one)
    one.add_argument("key", metavar="K", type=os.fsencode, help="the item's key")
    one.add_argument("value", metavar="V", type=os.fsencode, help="the item's value")


def _fetch(one: argparse.ArgumentParser) -> None:
    _queue(one)
    _timeout(one, "wait at most so long for an item; 0 by default")
    _reserve(one)


def _drain(one: argparse.ArgumentParser) -> None:
    _queue(one)
    _reserve(one)


def _drop(one: argparse.ArgumentParser) -> None:
    _any_queue(one)
    one.add_argument("--yes", action="store_true", help="do not ask")


def _database(one: argparse.ArgumentParser) -> None:
    """The parameters of the database, by the names that they have as modparams."""
    _queue(one)
    one.add_argument("--db-url", metavar="URL", help=f"the database; ${DB_URL_VARIABLE} by default")
    one.set_defaults(db_url=os.environ.get(DB_URL_VARIABLE))
    text = "off, on, verify, or the whole path of a file with certificates of authorities"
    one.add_argument("--db-tls", type=values.tls, metavar="HOW", help=text)
    text = "for all that is done with the database; any time by default, while it answers"
    one.add_argument("--db-timeout", type=values.more_than_0, default=0.0, metavar="SECONDS", help=text)
    text = "that a database which is away is tried again; 0 by default"
    one.add_argument("--db-retry", type=values.seconds, default=0.0, metavar="SECONDS", help=text)
    text = "accept a table that cannot take a change back (MyISAM)"
    one.add_argument("--db-inexact", action="store_true", help=text)


def _consume(one: argparse.ArgumentParser) -> None:
    _queue(one)
    one.add_argument("--exec", metavar="CMD", help="run a command of the shell for each item, instead of printing it")
    one.add_argument(
        "--follow", action="store_true", help="wait for more, for ever, instead of ending when it is empty"
    )
    _reserve(one)
    one.add_argument("-n", "--count", type=values.count, default=0, metavar="N", help="end after N items")
    _timeout(one, "end when none has come for so long; 0 by default")
    one.add_argument("--keep-going", action="store_true", help="go on, after a pause, when CMD has failed")


def _define_relaying(commands: Commands[Parser]) -> None:
    text = "carry the items of a queue to a Redis or Valkey server, or from there to here, once each"
    command(commands, "relay", "relay:relay", text, _relay, _RELAY_MORE, "with --check: print an object of JSON")


def _relay(one: argparse.ArgumentParser) -> None:
    one.add_argument("queue", metavar="Q", type=values.text, nargs="?", help="name of the queue here")
    one.add_argument("url", metavar="URL", nargs="?", help="like redis://central:6379/0, rediss://, valkey://, unix://")
    one.add_argument(
        "--config", metavar="FILE", help="a file of TOML that says all, in place of Q, URL and the options"
    )
    one.add_argument("--check", action="store_true", help="only see whether the server may be used, and keeps items")
    one.add_argument("--from", dest="from_", metavar="STREAM", help="the other way: from that queue there to Q here")
    one.add_argument("--stream", metavar="STREAM", help="the queue's name there; Q by default")
    text = "what an item's way must be safe from: fsync (the default), replicas=N, fsync+replicas=N, or memory"
    one.add_argument("--durability", metavar="D", help=text)
    text = "of what was sent, so many seconds are sent again after each new connection; with memory 5, else 0"
    one.add_argument("--replay", type=values.seconds, metavar="SECONDS", help=text)
    one.add_argument(
        "--batch", type=values.count, metavar="N", help="most items that are sent together; 400 by default"
    )
    one.add_argument(
        "--max-len", type=values.count, metavar="N", help="most items in the queue there; then they stay here"
    )
    one.add_argument(
        "--timeout", type=values.seconds, metavar="SECONDS", help="for a reply of the server; 5 by default"
    )
    one.add_argument(
        "--host-id", metavar="ID", help="what this host is called there; made of its machine-id by default"
    )
    one.add_argument("--user", metavar="USER", help=f"the server's user; ${ENGINE_USER_VARIABLE} by default")
    text = f"has the password in its first line; ${ENGINE_PASSWORD_VARIABLE} by default"
    one.add_argument("--password-file", metavar="FILE", help=text)
    one.add_argument("--tls-ca", metavar="FILE", help="certificates to trust, in place of the system's")
    one.add_argument("--tls-cert", metavar="FILE", help="this side's own certificate")
    one.add_argument("--tls-key", metavar="FILE", help="and its key")
    text = f"put Prometheus' metrics of the relay there, every 5 seconds; ${RELAY_METRICS_VARIABLE} by default"
    one.add_argument("--metrics", metavar="FILE", help=text)


def _define_working(commands: Commands[Parser]) -> None:
    text = "run workers: functions with @worker above them"
    command(commands, "work", "work:work", text, _work, _WORK_MORE, "")


def _work(one: argparse.ArgumentParser) -> None:
    one.add_argument("functions", metavar="MODULE:FUNCTION", nargs="+", help="like calls:write, or dir/calls.py:write")
    one.add_argument("--where", default=None, metavar="I", help="an instance, as --instance; or an engine's URL")
    text = "seconds, after SIGTERM, for what is in hand; 10 by default"
    one.add_argument("--grace", type=values.seconds, default=10.0, metavar="SECONDS", help=text)
    one.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="lines for people, or objects of JSON"
    )
    text = "serve Prometheus' metrics there, like 127.0.0.1:9131"
    one.add_argument("--metrics", type=values.address, default=None, metavar="HOST:PORT", help=text)


def _define_watching(commands: Commands[Parser]) -> None:
    text = "print each look as a line of JSON"
    command(commands, "top", "top:top", "show again and again what the queues do", _top, _TOP_MORE, text)
    text = "serve Prometheus' metrics over HTTP"
    json = "print an object of JSON with the address as soon as it serves"
    command(commands, "serve-metrics", "serve:serve_metrics", text, _serve_metrics, _SERVE_MORE, json)


def _top(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "-d", "--delay", type=values.seconds, default=1.0, metavar="SECONDS", help="between looks; 1 by default"
    )
    one.add_argument("-n", "--count", type=values.count, default=0, metavar="N", help="end after N looks")
    one.add_argument("--all", action="store_true", help="the queues of all instances on this host")


def _serve_metrics(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--listen",
        type=values.address,
        required=True,
        metavar="HOST:PORT",
        help="like 127.0.0.1:9130; port 0 takes one that is free",
    )
    one.add_argument("--all", action="store_true", help="all instances on this host, also those that come later")
    text = "give on the metrics that relays write there: a file, or a folder of *.prom; may be repeated"
    one.add_argument("--relay-metrics", action="append", default=[], metavar="PATH", help=text)


def _define_judging(commands: Commands[Parser]) -> None:
    text = "judge a script, a definitions file or a kamailio.cfg, before a server reads it; or --live, a running server"
    command(commands, "check", "check:check", text, _check, _CHECK_MORE, "print what was found as an object of JSON")
    text = "collect what a bug report needs: versions, limits, queues, locks; no content of any item"
    command(commands, "doctor", "doctor:doctor", text, more=_DOCTOR_MORE, json="print it as an object of JSON")


def _check(one: argparse.ArgumentParser) -> None:
    one.add_argument("file", metavar="FILE", nargs="?", help="nothing in it is executed")
    one.add_argument(
        "--live", action="store_true", help="instead of a FILE: is the instance served by a living server?"
    )
    one.add_argument("--strict", action="store_true", help="take warnings for errors")
    one.add_argument(
        "-A", "--define", action="append", metavar="NAME[=VALUE]", help="for a kamailio.cfg, as kamailio's own -A"
    )


def _timeout(one: argparse.ArgumentParser, text: str) -> None:
    one.add_argument("--timeout", type=values.seconds, default=0.0, metavar="SECONDS", help=text)


_CHECK_MORE = """A line is FILE:LINE: error (or warning): TEXT. A kamailio.cfg is read with what it includes and with
the script that it loads: does the script have each method that timers and events call, and are all queues defined that
are used? Use the Python of the server, whose syntax counts. What only a run would show is a warning.
With --live it ends with 0 if the server is alive and each queue can be read; it takes no lock."""
_DOCTOR_MORE = "It reads neither keys nor values, and shows no password. What cannot be found out is said in its place."
_RELAY_MORE = """It runs until SIGTERM or Ctrl-C ends it; what is not certainly there stays here. An item leaves the
queue only when the server has it as --durability says; one that is sent again is dropped there. While the server is
away, the items stay here. See docs/howto/many-machines.md."""
_STATS_MORE = """--prometheus has mqueue_kemi_up, and for each queue items, bytes, counters, limits and when the oldest
item was added; a limit that is not set has no sample. It takes no lock, and also gives something (mqueue_kemi_up 0)
when there is no server."""
_CONSUME_MORE = """CMD gets the value on its standard input, the key in $MQUEUE_KEY (a NUL in it as \\x00) and the queue
in $MQUEUE_QUEUE. When it fails, its item is put back (with --reserve at the head, else at the end) and consume ends,
or with --keep-going goes on. An item that was taken and not printed when consume is interrupted is put back too."""
_JSON_MORE = """A line is {"key": "...", "value": "...", "added": seconds since 1970}. Bytes that are not UTF-8 stand in
Base64 under "key_base64" or "value_base64" in place of "key" or "value". What is filled in is added now; its "added"
is not heeded. drain ends when the queue is empty. On a terminal both show a progress bar."""
_WORK_MORE = """The module is looked for in the current folder and on Python's path; dir/calls.py is a file. Each
function works in as many processes as its @worker says; one that dies is started again. SIGTERM and Ctrl-C end it
with 0 after what is in hand is done; what is not done within --grace is given back, and a second signal gives it back
at once. It waits for the server; a queue that a living server does not have ends it. Under systemd it takes
Type=notify and WatchdogSec=. Logs are on stderr."""
_TOP_MORE = """q ends it. IN/s are items added, OUT/s items taken; RESERVED are those that a consumer has taken and not
done, DUE those given back for later; WAIT is how long items were in the queue that left since the last look, on
average. Below stands why adds were refused. It takes no lock."""
_DB_MORE = """URL and the other --db- options are as in modparam("mqueue", "db_url", ...), and so on. It is done as
a whole or not at all; the next start of the server takes over what is in the queue."""
_SERVE_MORE = """The metrics are those of stats --prometheus, with --relay-metrics also those of relays (relay
--metrics); a path that is not there yet is no error. It needs the Python package prometheus_client."""
