# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m kemi.testing.stubgen: write what the installed Kamailio has into api.json and KSR-stubs.

What other releases have stays. --check says whether anything would change.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from kemi.testing import api
from kemi.testing.stubgen import collect, readme, render, server

HERE = os.path.dirname(os.path.abspath(api.__file__))
STUBS = os.path.join(HERE, "stubs", "KSR-stubs")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0; 1 when --check finds a difference, or when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python3 -m kemi.testing.stubgen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file would change")
    parser.add_argument(
        "--modules", metavar="FOLDER", help="where the modules lie (default: where the server has them)"
    )
    parser.add_argument("--readmes", metavar="FOLDER", default=readme.FOLDER, help="where the modules' READMEs lie")
    parser.add_argument("--only", metavar="MODULE", nargs="+", help="show what these modules bring, and write nothing")
    options = parser.parse_args(arguments)
    try:
        names = _names(options.only, options.modules or server.modules_folder())
        found = _collect(names, options.readmes)
    except server.StubgenError as error:
        print(f"stubgen: {error}", file=sys.stderr)
        return 1
    _report(found, len(names))
    if options.only:
        print(render.stub(found))
        return 0
    try:
        return _write(api.merge(_known(), found), options.check)
    except OSError as error:
        print(f"stubgen: cannot write {error.filename}: {error.strerror}; --only shows what there is", file=sys.stderr)
        return 1


def _names(only: list[str] | None, folder: str) -> list[str]:
    """The modules to ask. Raises StubgenError when one that is asked for is not there."""
    installed = server.installed_modules(folder)
    missing = [name for name in only or () if name not in installed]
    if missing:
        raise server.StubgenError(f"{folder} has no module {', '.join(missing)}; is its package installed?")
    return only or installed


def _known() -> api.Api:
    """What is there already, of this release and of others."""
    return api.load() if os.path.exists(api.PATH) else api.Api({}, ())


def _collect(names: list[str], readmes: str) -> api.Api:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        answers = dict(zip(names, pool.map(server.ask, names)))
    return collect.merge(server.version(), answers, lambda module: readme.read(module, readmes))


def _report(found: api.Api, tried: int) -> None:
    (scan,) = found.scans.values()
    started = tried - len(scan.not_started) - len(scan.not_loaded)
    print(f"Kamailio {found.version}: {len(found.functions)} functions; {tried} modules, {started} of them started")
    for name, why in scan.not_started.items():
        print(f"read, but not started: {name}: {why}")
    for name, why in scan.not_loaded.items():
        print(f"not read: {name}: {why}")


def _write(found: api.Api, check: bool) -> int:
    changed = 0
    for path, text in ((api.PATH, api.dumps(found)), (os.path.join(STUBS, "__init__.pyi"), render.stub(found))):
        before = None
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                before = file.read()
        if text == before:
            continue
        changed = 1
        print(f"{'differs' if check else 'written'}: {os.path.basename(path)}")
        if not check:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    return changed if check else 0


if __name__ == "__main__":
    sys.exit(main())
