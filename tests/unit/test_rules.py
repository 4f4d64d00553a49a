"""Rules of the source code that no linter knows, or that must hold where no linter runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PLUGIN = "kemi.testing.plugin"  # pytest loads it, and it imports pytest
SOURCES = [*sorted((CHECKOUT / "kemi").rglob("*.py")), CHECKOUT / "mqueue_kemi.py"]


def module_of(path: Path) -> str:
    """Return the name under which a file is imported."""
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): ast.parse(path.read_bytes()) for path in SOURCES}


def imports(name: str, *, everywhere: bool) -> set[str]:
    """Return the modules that a module imports: when it is imported itself, or everywhere in it."""
    found: set[str] = set()
    for node in ast.walk(MODULES[name]) if everywhere else MODULES[name].body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return found


def texts(name: str) -> set[str]:
    """Return the texts in a module, by which a thing can be had as well as by its name."""
    nodes = ast.walk(MODULES[name])
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_each_file_says_its_licence() -> None:
    """What is shipped and has comments; an example that is made to be copied has one without conditions."""
    folders = ("conf", "docs/share", "kemi", "ops")
    kinds = {".c", ".cfg", ".h", ".py", ".service", ".sh", ".sql", ".yml"}
    files = [path for folder in folders for path in sorted((CHECKOUT / folder).rglob("*")) if path.suffix in kinds]
    generated = CHECKOUT / "kemi" / "queue" / "kernel" / "segment" / "layout.h"
    found = {}
    for path in [*files, CHECKOUT / "mqueue_kemi.py", CHECKOUT / "setup.py"]:
        text = path.read_text("utf-8")
        if text.strip() and path != generated:
            said = re.search(r"^\W+SPDX-License-Identifier: ([\w.-]+)", "\n".join(text.splitlines()[:2]), re.MULTILINE)
            found[str(path.relative_to(CHECKOUT))] = said and said[1]
    assert len(found) > 300
    tools = {path for path in found if re.fullmatch(r"conf/([\w-]+\.sh|demo\w*\.py)", path)}
    examples = {path for path in found if path.startswith(("conf/", "ops/"))} - tools
    expected = {path: "0BSD" if path in examples else "GPL-2.0-or-later" for path in found}
    assert {path: licence for path, licence in found.items() if licence != expected[path]} == {}


@pytest.mark.parametrize("name", MODULES)
def test_pack_into_is_banned(name: str) -> None:
    """It writes zeros first, which another process reads and a kill leaves behind."""
    nodes = list(ast.walk(MODULES[name]))
    assert "pack_into" not in {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert "pack_into" not in {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert "pack_into" not in texts(name)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("kemi.queue")])
def test_the_queue_knows_no_kamailio(name: str) -> None:
    """It imports its own modules, the errors, names that all parts know, and who owns a segment."""
    own = {module for module in imports(name, everywhere=True) if module.partition(".")[0] in ("kemi", "KSR")}
    assert {module for module in own if not module.startswith("kemi.queue")} <= {
        "kemi.errors",
        "kemi.frozen",
        "kemi.names",
        "kemi.times",
        "kemi.timens",
        "kemi.owner",
    }


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(("kemi.server", "kemi.testing"))])
def test_only_the_server_knows_ksr(name: str) -> None:
    """Nothing else imports KSR, in whatever way. (kemi.check reads scripts that do.)"""
    assert not {module for module in imports(name, everywhere=True) if module.partition(".")[0] == "KSR"}
    assert "KSR" not in texts(name) or name.startswith("kemi.check")


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("kemi.testing")])
def test_nothing_needs_what_is_for_tests(name: str) -> None:
    """What a server loads has nothing of the fake one."""
    assert not {module for module in imports(name, everywhere=True) if module.startswith("kemi.testing")}


def test_no_circle() -> None:
    """Modules can be put in an order in which each imports only those before it."""
    left = {name: imports(name, everywhere=True) & MODULES.keys() for name in MODULES}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {PLUGIN}))
def test_each_module_is_imported_alone(name: str) -> None:
    """In a fresh Python, with warnings as errors, from any folder, with the standard library alone."""
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import {name}; assert 'KSR' not in sys.modules"
    subprocess.run([sys.executable, "-I", "-S", "-bb", "-W", "error", "-c", code], check=True, timeout=60, cwd="/")


# Optional, and imported only where they are used: by module.
OPTIONAL = {
    "kemi.cli.progress": {"rich"},
    "kemi.cli.serve": {"prometheus_client"},
    "kemi.cli.top": {"rich"},
    "kemi.database.drivers": {"sqlalchemy"},
    "kemi.database.engine": {"sqlalchemy"},
    "kemi.database.ledger": {"sqlalchemy"},
    "kemi.database.names": {"sqlalchemy"},
    "kemi.database.statements": {"sqlalchemy"},
    "kemi.database.table": {"sqlalchemy"},
    "kemi.queue.queue": {"typing_extensions"},  # for type checkers, which bring it
    "kemi.worker.worker": {"typing_extensions"},  # as that
    "kemi.relay.link": {"redis"},
}


def test_the_standard_library_is_enough() -> None:
    """No module imports anything else, but what is optional, and never when it is imported itself."""
    known: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
    if not known:
        pytest.skip("this Python has no list of its standard library")
    for name in MODULES.keys() - {PLUGIN}:
        outside = {module.partition(".")[0] for module in imports(name, everywhere=True)}
        assert outside - known - OPTIONAL.get(name, set()) <= {"kemi", "KSR", "mqueue_kemi"}
        at_once = {module.partition(".")[0] for module in imports(name, everywhere=False)}
        assert at_once.isdisjoint({"prometheus_client", "redis", "rich", "sqlalchemy", "tomli"})


def test_a_server_loads_no_command_line_and_no_workers() -> None:
    """What a routing script imports is what it needs."""
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import mqueue_kemi; "
    code += "print({name for name in sys.modules if name.startswith(('kemi.cli', 'kemi.worker'))} or False)"
    argv = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(argv, check=True, timeout=60, cwd="/", capture_output=True, text=True)
    assert done.stdout == "False\n"
