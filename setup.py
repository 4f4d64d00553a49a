# SPDX-License-Identifier: GPL-2.0-or-later
"""What pyproject.toml cannot say so that setuptools 66 (Debian 12's) and today's both take it without a warning.

The description on a package index is the README, in which a relative link leads nowhere. MQUEUE_KEMI_SOURCE_URL says
where this version's files can be read, for instance https://example.org/mqueue_kemi/raw/v0.1.0: links and pictures lead
there. Without it a link is its text alone, and a picture is left out.

The kernel in C is optional. MQUEUE_KEMI_BUILD says what becomes of it: "auto" (the default) builds it where that can be
done, "native" fails where it cannot, "pure" does without; "crash-points" builds the one for tests beside it. There are
two kinds of wheel, py3-none-any without it, and cp310-abi3 with it for all Pythons from 3.10 on. In a source tree:

    python3 setup.py build_ext --inplace
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, Extension, setup

ROOT = Path(__file__).parent
KERNEL = "kemi/queue/kernel"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def description(readme: str, source: str) -> str:
    """Return the README as it can be read elsewhere."""

    def elsewhere(link: re.Match[str]) -> str:
        mark, text, path = link.groups()
        if source:
            return f"{mark}[{text}]({source.rstrip('/')}/{path})"
        return "" if mark else text

    return _LINK.sub(elsewhere, readme)


def _kernel(name: str = "_kernel", *macros: tuple[str, str | None]) -> Extension:
    return Extension(
        f"{KERNEL.replace('/', '.')}.{name}",
        [f"{KERNEL}/_kernel.c"],
        depends=sorted(str(path.relative_to(ROOT)) for path in (ROOT / KERNEL).rglob("*.h")),
        define_macros=[("Py_LIMITED_API", "0x030A0000"), ("_GNU_SOURCE", None), *macros],
        extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-cast-function-type"],
        py_limited_api=True,
    )


def _why_not() -> str:
    """Why the kernel cannot be built; "" if it can. Found out by building it."""
    if platform.python_implementation() != "CPython" or sys.version_info < (3, 10):
        return "it is for CPython 3.10 and newer"
    with tempfile.TemporaryDirectory() as folder:
        command = Distribution({"name": "trial", "ext_modules": [_kernel()]}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = folder
        command.force = True
        try:
            command.ensure_finalized()
            command.run()
        except Exception as error:  # noqa: BLE001 - distutils raises its own, from modules that come and go
            return f"{type(error).__name__}: {error}"
    return ""


def extensions() -> list[Extension]:
    """Return what is to be compiled."""
    wanted = os.environ.get("MQUEUE_KEMI_BUILD", "") or "auto"
    if wanted not in ("auto", "native", "pure", "crash-points"):
        raise SystemExit(f"MQUEUE_KEMI_BUILD={wanted!r}: it must be auto, native or pure")
    compiles = {"build", "build_ext", "bdist_wheel", "editable_wheel", "develop", "install"} & {*sys.argv}
    if wanted == "pure" or not compiles:
        return []
    if wanted == "auto" and (why := _why_not()):
        sys.stderr.write(f"mqueue-kemi: without the native kernel, in pure Python: {why}\n")
        return []
    return [_kernel(), *([_kernel("_kernel_crash", ("CRASH_POINTS", None))] if wanted == "crash-points" else [])]


if __name__ == "__main__":
    setup(
        ext_modules=extensions(),
        options={"bdist_wheel": {"py_limited_api": "cp310"}} if sys.version_info >= (3, 10) else {},
        # From 77 on it would be license = "GPL-2.0-or-later" there, which older ones refuse; theirs is deprecated.
        license="GPL-2.0-or-later",
        long_description=description(
            (Path(__file__).parent / "README.md").read_text("utf-8"), os.environ.get("MQUEUE_KEMI_SOURCE_URL", "")
        ),
        long_description_content_type="text/markdown",
    )
