"""What the page about containers says, with namespaces instead of containers: a pod of a server and a worker."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import CHECKOUT, program
from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

# In a pod of its own: mounts, pids, loopback and a /dev/shm of 64 MB. kamailio-cdr.cfg takes nothing out of its queue.
POD = """
    set -eu
    mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm
    work=$2
    cd "$1"
    mq() { python3 -m mqueue_kemi "$@"; }
    serve() { kamailio -f conf/kamailio-cdr.cfg -DD -E -Y "$work" -P "$work/pid" -m 32 -M 8 >>"$work/log" 2>&1; }
    live() { until mq check --live 2>/dev/null; do sleep 0.1; done; }
    # With a namespace's first process the others end, too, some before their turn comes. All must have.
    killed() {
        kill -9 $(pgrep -x kamailio) 2>/dev/null || :
        while pgrep -r DRST -x kamailio >/dev/null; do sleep 0.1; done
        while mq check --live 2>/dev/null; do sleep 0.1; done
    }
    expect() {
        wanted=$1 code=0
        shift
        "$@" || code=$?
        [ "$code" -eq "$wanted" ] || { echo "$* ended with $code"; exit 1; }
    }
    trap 'echo "what follows is the log"; cat "$work/log"' EXIT
"""
SHARED = """
    serve & live
    for key in 1 2 3; do mq add cdr $key v; done
    echo "worker: $(unshare --mount python3 -m mqueue_kemi fetch cdr --timeout 5)"
    killed
    expect 9 mq check --live
    serve & live
    echo "after the restart: $(mq drain cdr | wc -l)"
    kill "$(cat "$work/pid")"
    while [ -e /dev/shm/mqk.kamailio ]; do sleep 0.1; done
    expect 3 mq check --live
    echo "it stopped"
"""
APART = """
    serve & live
    mq add cdr 1 v
    other() { unshare --pid --fork --kill-child --mount-proc python3 -m mqueue_kemi "$@"; }
    expect 6 other fetch cdr
    expect 0 other check --live
    expect 6 other drop --yes
    kamailio="kamailio -f conf/kamailio-cdr.cfg -DD -E -Y $work -m 32 -M 8"
    code=0
    unshare --pid --fork --kill-child --mount-proc timeout 60 $kamailio >"$work/second" 2>&1 || code=$?
    [ "$code" -ne 0 ]
    [ "$code" -ne 124 ]
    grep -o 'InstanceInUse: .*' "$work/second" | head -n 1
    echo "from outside: $(other get_size cdr) $(other instances | grep -o alive)"
    killed
    echo "killed: $(other instances | grep -o dead)"
    unshare --pid --fork --kill-child --mount-proc $kamailio >>"$work/log" 2>&1 &
    until main=$(pgrep -P $!); do sleep 0.1; done
    inside() { nsenter --target "$main" --pid --mount --root --wd python3 -m mqueue_kemi "$@"; }
    until inside check --live 2>/dev/null; do sleep 0.1; done
    echo "taken over: $(inside drain cdr | wc -l)"
    inside add cdr 2 v
    killed
    other drop --yes
    expect 3 mq check --live
"""
AS_PID_1 = """
    kamailio="kamailio -f conf/kamailio-cdr.cfg -DD -E -Y $work -m 32 -M 8"
    unshare --pid --fork --kill-child --mount-proc $kamailio >>"$work/log" 2>&1 &
    until mq get_size cdr >/dev/null 2>&1; do sleep 0.1; done
    until [ "$(pgrep -c -x kamailio)" -gt 5 ]; do sleep 0.1; done
    main=$(pgrep -P $!)
    nsenter --target "$main" --pid --mount sh -c '(sleep 0.2 &)'
    while kill -0 "$main" 2>/dev/null; do sleep 0.1; done
    echo "it ended: $(grep -c 'signal 15 received' "$work/log")"
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (AS_PID_1, ["it ended: "]),
        (SHARED, ["worker: 1\tv", "is dead", "after the restart: 2", "it stopped"]),
        (
            APART,
            [
                "was made in another pid namespace",
                "in another pid namespace, where it lives",
                "from outside: 1 alive",
                "killed: dead",
                "InstanceInUse: ",
                "taken over: 1",
                "took away instance 'kamailio', 1 items",
            ],
        ),
    ],
    ids=["pid 1", "one pid namespace", "two"],
)
def test_a_pod(tmp_path: Path, script: str, said: list[str]) -> None:
    """With a pid namespace in common everything works, a restart after a kill too.

    Without, what is told is true, a living server is not touched, and a dead one is taken over.

    And as pid 1 Kamailio ends with the first orphan.
    """
    names = ["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    lines = textwrap.dedent(POD) + textwrap.dedent(script)
    argv = ["timeout", "-s", "KILL", "120", program("unshare"), *names, "sh", "-c", lines, "sh", str(CHECKOUT)]
    argv.append(str(tmp_path))
    process = ServerProcess(argv, tmp_path / "said", {"PYTHONPATH": str(CHECKOUT)})
    try:
        code = process.spawn().wait(150)
        log = process.log()
        assert code == 0, log
        before = log.partition("what follows is the log")[0]
        assert [words for words in said if words not in before] == []
    finally:
        process.kill()
