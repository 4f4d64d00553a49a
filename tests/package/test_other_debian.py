"""tests/run.sh --debian and .ci/run, where the other release of Debian cannot be made, or is made by halves.

apt and apt-helper are the real ones, with a mirror of this file's own. debootstrap makes an empty folder, and chroot
runs what the test says.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.package.conftest import CHECKOUT
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = platform.freedesktop_os_release()["VERSION_CODENAME"]
OTHER = "bookworm" if HOST == "trixie" else "trixie"
SKIPPED = 75
WITHIN = 60.0

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes namespaces, as tests/run.sh does, which is root")

DEBOOTSTRAP = """#!/bin/sh
while [ $# -gt 3 ]; do shift; done
[ ! -e "$2" ] || exit 9
mkdir -p "$2/half"
sh "$FAKES/during" || exit
rmdir "$2/half"
for folder in proc sys dev tmp etc/apt/apt.conf.d usr/sbin var/lib var/cache/apt/archives; do
    mkdir -p "$2/$folder"
done
"""
CHROOT = """#!/bin/sh
shift
case $* in update-ca-certificates) exit ;; esac
while [ "$1" != sh ]; do shift; done
shift 2
echo "$*" >>"$FAKES/inside.log"
exec sh "$FAKES/inside" "$@"
"""


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing of what was asked."""

    def log_message(self, *_: object) -> None:
        pass


class World:
    """A mirror, an apt that has its packages from there, and a cache folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.mirror = home / "mirror"
        self.cache = home / "cache"
        self.root = self.cache / "mqueue-kemi" / OTHER
        self.server: ThreadingHTTPServer | None = None
        self.port = 0
        self.env = {
            **os.environ,
            "APT_CONFIG": str(home / "apt.conf"),
            "XDG_CACHE_HOME": str(self.cache),
            "FAKES": str(home),
            "PATH": f"{home}/bin:{os.environ['PATH']}",
        }
        for name in ("bin", "lists/partial", "parts"):
            (home / name).mkdir(parents=True)
        for name, text in (("debootstrap", DEBOOTSTRAP), ("chroot", CHROOT)):
            (home / "bin" / name).write_text(text, "ascii")
            (home / "bin" / name).chmod(0o755)
        self.says()

    def says(self, *, during: str = "", inside: str = "") -> None:
        """Say what debootstrap does in its middle, and the tests inside."""
        (self.home / "during").write_text(during, "ascii")
        (self.home / "inside").write_text(inside, "ascii")

    def release(self, name: str) -> None:
        """Put an empty release on the mirror."""
        folder = self.mirror / "dists" / name
        packages = folder / "main" / f"binary-{self._machine()}" / "Packages"
        packages.parent.mkdir(parents=True)
        text = b"Package: nothing\nVersion: 1\nArchitecture: all\nFilename: nothing.deb\nSize: 1\n"
        packages.write_bytes(text)
        digest = f"{hashlib.sha256(text).hexdigest()} {len(text)} {packages.relative_to(folder)}"
        head = f"Codename: {name}\nComponents: main\nArchitectures: {self._machine()}\n"
        head += "Date: Thu, 01 Jan 2026 00:00:00 UTC\n"
        (folder / "Release").write_text(f"{head}SHA256:\n {digest}\n", "ascii")

    @staticmethod
    def _machine() -> str:
        return subprocess.check_output(["/usr/bin/dpkg", "--print-architecture"], text=True).strip()

    def up(self) -> None:
        """Let the mirror answer."""
        self.mirror.mkdir(exist_ok=True)
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), partial(Quiet, directory=str(self.mirror)))
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever).start()
        (self.home / "sources.list").write_text(
            f"deb [trusted=yes] http://127.0.0.1:{self.port} {HOST} main\n", "ascii"
        )
        settings = {
            "Dir::Etc::SourceList": self.home / "sources.list",
            "Dir::Etc::SourceParts": self.home / "parts",
            "Dir::State::Lists": self.home / "lists",
            "Acquire::Retries": 0,
            "Acquire::http::Proxy": "DIRECT",
        }
        text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
        (self.home / "apt.conf").write_text(text, "ascii")

    def down(self) -> None:
        """Nobody listens any more."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def update(self) -> None:
        """Let this host's apt know its mirror, as on every host that has installed something."""
        subprocess.run(["/usr/bin/apt-get", "update", "--quiet"], env=self.env, check=True, capture_output=True)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        argv = ["sh", "tests/run.sh", "--debian", OTHER, *arguments]
        out = subprocess.PIPE
        return subprocess.Popen(argv, cwd=CHECKOUT, env=self.env, stdout=out, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the code, and what was said."""
        process = self.start(*arguments)
        out, _ = process.communicate(timeout=WITHIN)
        return process.returncode, out

    def passes(self, *arguments: str) -> str:
        """Run it to a good end; return what it said."""
        code, out = self.run(*arguments)
        assert code == 0, out
        return out

    def inside(self) -> list[str]:
        """Each call of tests/run.sh inside."""
        path = self.home / "inside.log"
        return path.read_text("ascii").splitlines() if path.exists() else []

    def processes(self) -> list[str]:
        """What runs, with this world's folder on its command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if str(self.home).encode() in line:
                found.append(line.decode())
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world whose mirror has both releases and answers."""
    tmp_path.chmod(0o755)
    made = World(tmp_path)
    made.release(HOST)
    made.release(OTHER)
    made.up()
    yield made
    made.down()


def test_made_once(world: World) -> None:
    """What the tests need is installed first; the second run finds it."""
    world.update()
    world.passes("-e", "py", "--", "-k", "x")
    world.passes("-e", "py")
    assert world.inside() == ["-e py --notest", "-e py -- -k x", "-e py"]
    assert sorted(path.name for path in world.root.parent.iterdir()) == [
        OTHER, f"{OTHER}.archives", f"{OTHER}.lock", f"{OTHER}.packages",
    ]  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
def test_nobody_answers(world: World, known: bool) -> None:
    """Whether apt has ever had this host's own lists, or its lists were removed, as in images of containers."""
    if known:
        world.update()
    world.down()
    code, out = world.run()
    assert (code, world.inside()) == (SKIPPED, [])
    assert out.splitlines()[-1].startswith(f"tests/run.sh --debian {OTHER}: SKIPPED: ")
    world.up()
    world.passes()


@pytest.mark.parametrize(
    ("gone", "message"), [([OTHER], f"has no {OTHER}"), ([OTHER, HOST], f"neither {OTHER} nor {HOST}")]
)
def test_a_wrong_mirror(world: World, gone: list[str], message: str) -> None:
    """One that answers and has not what is asked for is a fault, and nothing to skip."""
    world.update()
    for name in gone:
        shutil.rmtree(world.mirror / "dists" / name)
    code, out = world.run()
    assert code == 1
    assert message in out.splitlines()[-1]


def test_debootstrap_fails(world: World) -> None:
    world.update()
    world.says(during="exit 3")
    code, out = world.run()
    assert (code, out.splitlines()[-1]) == (1, f"tests/run.sh --debian {OTHER}: debootstrap failed")
    world.says()
    world.passes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_debootstrap_is_cut_off(world: World, number: signal.Signals) -> None:
    """Nothing runs on, and the next run begins anew."""
    world.update()
    world.says(during='touch "$FAKES/begun"; sleep 1000')
    process = world.start()
    until((world.home / "begun").exists)
    process.send_signal(number)
    process.communicate(timeout=WITHIN)
    until(lambda: not world.processes())
    assert not world.root.exists()
    world.says()
    world.passes()
    assert not (world.root / "half").exists()


@pytest.mark.parametrize("answers", [True, False])
def test_what_the_tests_need_cannot_be_installed(world: World, answers: bool) -> None:
    """A cache that is filled by halves. The cause counts: no mirror is skipped, anything else is a failure."""
    world.update()
    world.says(inside="exit 100")
    if not answers:
        world.says(inside="exit 0")
        world.passes()
        (world.root / "var/lib/mqueue-kemi-tests.ready").unlink()
        world.says(inside="exit 100")
        world.down()
    code, out = world.run()
    assert code == (1 if answers else SKIPPED)
    assert ("cannot be installed" if answers else "SKIPPED") in out.splitlines()[-1]


@pytest.mark.parametrize(("inside", "code"), [(0, 0), (1, 1), (2, 2), (SKIPPED, 1), (100, 100)])
def test_the_tests_end(world: World, inside: int, code: int) -> None:
    """Nothing that happens in them is taken for a mirror that cannot be reached, whether it can be or not."""
    world.update()
    world.passes()
    world.down()
    world.says(inside=f"exit {inside}")
    assert world.run("-e", "py")[0] == code


def test_a_release_of_long_ago(world: World) -> None:
    """Made anew, or used as it is while there is no way to the mirror."""
    world.update()
    world.passes()
    old = world.root / "old"  # not its inode: the next folder may have the same
    old.touch()
    for up in (False, True):
        os.utime(world.root, (0, 0))
        if not up:
            world.down()
        else:
            world.up()
        out = world.passes()
        assert old.exists() != up
        assert ("using the" in out) != up


def test_two_at_once(world: World) -> None:
    """One waits for the other, also when the release is made."""
    world.update()
    os.mkfifo(world.home / "gate")
    world.says(during='cat "$FAKES/gate"')
    first = world.start("-e", "first")
    until((world.root.parent / f"{OTHER}.new").exists)
    second = world.start("-e", "second")
    assert second.stdout is not None
    assert "waiting for it" in second.stdout.readline()
    (world.home / "gate").write_bytes(b"")
    for process in (first, second):
        process.communicate(timeout=WITHIN)
        assert process.returncode == 0
    assert world.inside() == ["-e py --notest", "-e first", "-e second"]


@pytest.mark.parametrize(("other", "code"), [(0, 0), (SKIPPED, 0), (1, 1), (2, 2), (100, 100)])
def test_ci(tmp_path: Path, other: int, code: int) -> None:
    """Green with one loud line where the mirror cannot be reached, and red for anything else."""
    done, _ = _ci(tmp_path, f'[ "$1" != --debian ] || exit {other}')
    assert done.returncode == code
    loud = f"\n******** NOT TESTED in Debian {OTHER}: its packages cannot be reached from here ********\n"
    assert done.stderr == (loud if other == SKIPPED else "")


@pytest.mark.parametrize("failing", ["", "-e coverage", "-e crash-points"])
def test_ci_fails_here(tmp_path: Path, failing: str) -> None:
    """75 of this host's own tests is a failure, like any other code."""
    done, _ = _ci(tmp_path, f'[ "$*" != "{failing}" ] || exit {SKIPPED}')
    assert done.returncode == SKIPPED


@pytest.mark.parametrize("reached", [True, False])
def test_ci_runs_every_test_with_each_kernel(tmp_path: Path, reached: bool) -> None:
    """The native one in the other release, or here if that cannot be had; a failure there is one."""
    there = "" if reached else f'[ "$1" != --debian ] || exit {SKIPPED}'
    _, ran = _ci(tmp_path, there)
    assert "-e crash-points" in ran
    assert (f"--debian {OTHER} -e native" if reached else "-e native") in ran
    last = ran[-1]
    done, _ = _ci(tmp_path, f'{there}\n[ "$*" != "{last}" ] || exit 1')
    assert done.returncode == 1


def _ci(folder: Path, script: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run .ci/run with that in place of tests/run.sh. Returns also what that was called with, in order."""
    for name in ("tests", ".ci"):
        (folder / name).mkdir(exist_ok=True)
    shutil.copy(CHECKOUT / ".ci" / "run", folder / ".ci")
    calls = folder / "calls"
    calls.write_text("", "ascii")
    (folder / "tests" / "run.sh").write_text(f'echo "$*" >>{calls}\n{script}\n', "ascii")
    done = subprocess.run([folder / ".ci" / "run"], capture_output=True, text=True, timeout=WITHIN, check=False)
    return done, calls.read_text("ascii").splitlines()
