"""Which kernel is chosen, and what is said when it is not the one that was asked for."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kemi.cli.usage import codes
from kemi.names import VERSION
from tests.conftest import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

SAY = "from kemi.queue.kernel import choice; print(choice.description())"
OTHER_FORMAT = (
    "import sys, types; other = types.SimpleNamespace(FORMAT=4, REVISION=0, Queue=object); "
    "sys.modules['kemi.queue.kernel._kernel'] = other; "
)
NOT_BUILT = "import sys; sys.modules['kemi.queue.kernel._kernel'] = None; "
FREE_THREADED = "import sys; sys.abiflags += 't'; "


def python(kernel: str | None, code: str) -> subprocess.CompletedProcess[str]:
    variable = {} if kernel is None else {"MQUEUE_KEMI_KERNEL": kernel}
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, cwd=CHECKOUT, env=variable, check=False, capture_output=True, text=True, timeout=60)


WHAT_RUNS = [
    *((kernel, "native") for kernel in (None, "", "auto", "native")),
    ("pure", "pure Python (MQUEUE_KEMI_KERNEL=pure)"),
]


@pytest.mark.parametrize(("kernel", "said"), WHAT_RUNS)
def test_what_runs(kernel: str | None, said: str) -> None:
    done = python(kernel, SAY)
    assert (done.stdout, done.stderr) == (f"{said}\n", "")


def test_a_word_that_is_none() -> None:
    done = python("fast", SAY)
    assert "ImportError: MQUEUE_KEMI_KERNEL='fast': it must be auto, native or pure" in done.stderr


REASONS = {
    "another format": (OTHER_FORMAT, "the native one is for memory format 4.0, this is format"),
    "free-threaded": (FREE_THREADED, "the native one needs a Python with its GIL"),
}


@pytest.mark.parametrize(("prepare", "why"), REASONS.values(), ids=list(REASONS))
def test_auto_is_pure_and_says_so(prepare: str, why: str) -> None:
    """One line, and everything works."""
    done = python("auto", prepare + SAY)
    assert done.stdout.startswith(f"pure Python ({why}")
    assert len(done.stderr.splitlines()) == 1
    assert f"RuntimeWarning: its kernel is pure Python: {why}" in done.stderr


def test_not_built_is_nothing_to_speak_of() -> None:
    done = python("auto", NOT_BUILT + SAY)
    assert (done.stdout, done.stderr) == ("pure Python (the native one was not built)\n", "")


@pytest.mark.parametrize("prepare", [OTHER_FORMAT, FREE_THREADED, NOT_BUILT])
def test_native_is_an_error_without_it(prepare: str) -> None:
    done = python("native", prepare + SAY)
    assert done.returncode == 1
    assert "ImportError: MQUEUE_KEMI_KERNEL=native, and there is no native kernel: the native one" in done.stderr
    assert "build_ext --inplace" in done.stderr


SUB = """
import sys
try:
    import _xxsubinterpreters as sub
except ImportError:
    import _interpreters as sub
number = sub.create({how})
code = "import sys; sys.path.insert(0, {path!r}); from kemi.queue.kernel import choice; print(choice.description())"
sub.{run}(number, code)
"""


def test_a_subinterpreter_is_pure() -> None:
    """The state of the kernel is one interpreter's."""
    old = sys.version_info < (3, 12)
    how, run = ("isolated=False", "run_string") if old else ("'legacy'", "run_string")
    if sys.version_info >= (3, 13):
        run = "exec"
    done = python("auto", SUB.format(how=how, path=str(CHECKOUT), run=run))
    assert done.stdout.startswith("pure Python (the native one cannot be used: "), done.stderr
    assert done.stderr.count("RuntimeWarning: its kernel is pure Python") == 1


def test_the_command_says_which(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "mqueue_kemi", "--version"]
    for kernel, said in (("native", "native"), ("pure", "pure Python (MQUEUE_KEMI_KERNEL=pure)")):
        done = subprocess.run(
            argv, cwd=CHECKOUT, env={"MQUEUE_KEMI_KERNEL": kernel, "HOME": str(tmp_path)},
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == f"mqueue-kemi {VERSION} (kernel: {said})\n"


def test_few_tests_do_without_it() -> None:
    """Those that take parts of the Python code away, or count its steps: some 30 marks of some thousand tests."""
    mark = "pytest.mark." + "python_code"
    assert sum(path.read_text("utf-8").count(mark) for path in (CHECKOUT / "tests").rglob("test_*.py")) <= 50


@pytest.mark.parametrize("arguments", [["--version"], ["fetch", "q"]])
@pytest.mark.parametrize(
    ("kernel", "prepare", "said"),
    [("fast", "", "it must be auto, native or pure"), ("native", NOT_BUILT, "there is no native kernel")],
)
def test_the_command_says_in_one_line_which_kernel_it_cannot_have(
    kernel: str, prepare: str, said: str, arguments: list[str]
) -> None:
    run = "import runpy; sys.argv[1:] = {!r}; runpy.run_module('mqueue_kemi', run_name='__main__')"
    done = python(kernel, f"import sys\n{prepare}{run.format(arguments)}")
    assert (done.returncode, done.stdout) == (codes.USAGE, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
