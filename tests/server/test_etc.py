"""conf/kamailio.cfg and kamailio.py copied to /etc/kamailio, and started as Debian's service does it."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

from tests.server.harness import CHECKOUT, program
from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

# In mounts of its own: /etc/kamailio, /run/kamailio and /dev/shm are this test's alone. A daemon begins in "/".
SCRIPT = """
    set -eu
    mount -t tmpfs -o mode=755 tmpfs /etc/kamailio
    mkdir -p /run/kamailio
    mount -t tmpfs -o mode=770 tmpfs /run/kamailio
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    chown kamailio:kamailio /run/kamailio
    cp "$1/conf/kamailio.cfg" "$1/conf/kamailio.py" /etc/kamailio/
    cd /
    kamailio -c -f /etc/kamailio/kamailio.cfg
    su -s /bin/sh kamailio -c 'kamailio -P /run/kamailio/kamailio.pid -f /etc/kamailio/kamailio.cfg -m 64 -M 8 -E'
    until python3 -m mqueue_kemi check --live; do sleep 0.1; done
    python3 -m mqueue_kemi add myq k v
    stat -c '%U %A %n' /dev/shm/mqk.kamailio.myq
    while [ -n "$(python3 -m mqueue_kemi peek myq)" ]; do sleep 0.1; done
    kill "$(cat /run/kamailio/kamailio.pid)"
    while [ -e /dev/shm/mqk.kamailio ]; do sleep 0.1; done
    echo "it stopped and left: $(ls /dev/shm)."
"""


def test_it_runs_as_the_service(readable: Path, tmp_path: Path) -> None:
    """As user kamailio, in the background, from /: it starts, its consumers take an item, and it ends clean."""
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    shutil.copytree(CHECKOUT / "conf", readable / "conf")
    argv = [
        program(unshare[0]),
        *unshare[1:],
        "timeout",
        "100",
        "sh",
        "-c",
        textwrap.dedent(SCRIPT),
        "sh",
        str(readable),
    ]
    process = ServerProcess(argv, tmp_path / "log", {"PYTHONPATH": str(readable)})
    try:
        code = process.spawn().wait(120)
        assert code == 0, process.log()
        assert "kamailio -rw------- /dev/shm/mqk.kamailio.myq" in process.log()
        assert "it stopped and left: ." in process.log()
        assert "- v" in process.log()  # a consumer's line
    finally:
        process.kill()
