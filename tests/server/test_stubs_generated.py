"""What is committed of KEMI is what the installed Kamailio has."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from kemi.testing import api
from kemi.testing.stubgen import __main__ as stubgen
from kemi.testing.stubgen import collect, readme, server

if TYPE_CHECKING:
    from pathlib import Path

SOME = ("app_python3", "dialog", "htable", "mqueue", "pv", "registrar", "textopsx", "tm", "tmx", "uac")


def test_some_modules() -> None:
    """A running server lists the functions that api.json has of its modules, with names from the READMEs."""
    answers = {name: server.ask(name) for name in SOME}
    assert {name: found.why for name, found in answers.items() if found.listed is None} == {}
    found = collect.merge(server.version(), answers, readme.read)
    (release,) = found.releases
    committed = api.only(api.load(), release)
    own = {each for each in committed.functions if each.loaded_by in SOME}
    # What another release has too is described in the words of the newest.
    told = {each for each in api.only(api.merge(api.load(), found), release).functions if each.loaded_by in SOME}
    if not os.path.isdir(readme.FOLDER):  # a small image has no documentation, and so no names of arguments
        own, told = without_names(own), without_names(told)
    assert own == told
    assert len(own) > 200


def without_names(functions: set[api.Function]) -> set[api.Function]:
    return {each._replace(names=(), doc="") for each in functions}


def test_a_module_that_cannot_start_is_read_all_the_same() -> None:
    told = server.ask("mtree")
    assert told.listed is None
    assert "no trees" in told.why
    assert told.tables is not None
    assert "mtree" in {row["module"] for row in told.tables}


def test_a_module_that_is_not_there() -> None:
    told = server.ask("no_such_module")
    assert told.tables is None
    assert "no_such_module" in told.why


def test_a_module_that_is_asked_for_and_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert stubgen.main(["--only", "sl", "no_such_module"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"stubgen: /\S+ has no module no_such_module; is its package installed\?\n", said.err)


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert stubgen.main(["--modules", "/no/such"]) == 1
    assert capsys.readouterr().err == "stubgen: cannot read the modules in /no/such: No such file or directory\n"


def test_where_nothing_can_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where root has installed it."""
    monkeypatch.setattr(stubgen, "STUBS", str(tmp_path / "none"))
    monkeypatch.setattr(api, "PATH", str(tmp_path / "none" / "api.json"))
    monkeypatch.setattr(server, "installed_modules", lambda _folder: ["sl"])
    assert stubgen.main([]) == 1
    said = capsys.readouterr().err
    assert (
        said
        == f"stubgen: cannot write {tmp_path}/none/api.json: No such file or directory; --only shows what there is\n"
    )


@pytest.mark.stress
def test_every_module() -> None:
    """Making all of it again changes nothing."""
    release = api.release_of(server.version())
    committed = api.only(api.load(), release)
    known = {each.loaded_by for each in committed.functions} | committed.scans[release].not_started.keys()
    missing = known - {""} - set(server.installed_modules(server.modules_folder()))
    if missing:
        pytest.skip(f"modules of packages that are not installed: {', '.join(sorted(missing))}")
    assert stubgen.main(["--check"]) == 0
