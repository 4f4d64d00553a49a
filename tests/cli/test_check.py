"""`mqueue-kemi check`: its exit status, its output, its JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

RIGHT = """
import mqueue_kemi
mqueue_kemi.modparam("mqueue", "mqueue", "name=q")
class Script:
    def child_init(self, rank):
        return 0
def mod_init():
    return mqueue_kemi.mod_init(Script())
"""


def test_right_and_wrong(command: Command, tmp_path: Path) -> None:
    """0 and a line for people; 9 and a line for each problem; 2 where there is no such file."""
    script = tmp_path / "script.py"
    script.write_text(RIGHT, "utf-8")
    done = command("check", str(script))
    assert (done.code, done.out, done.err) == (0, "", f"mqueue-kemi: {script}: nothing wrong; queues: q\n")
    script.write_text(RIGHT.replace("name=q", "name=q;size=x"), "utf-8")
    done = command("check", str(script))
    assert (done.code, done.err) == (9, "")
    assert done.out.startswith(f'{script}:3: error: modparam("mqueue", "mqueue", "name=q;size=x")')
    assert done.out.count("\n") == 1
    assert "No such file" in command("check", str(tmp_path / "none")).failed(2)
    assert "Is a directory" in command("check", str(tmp_path)).failed(2)


def test_warnings(command: Command, tmp_path: Path) -> None:
    """They fail with --strict only."""
    script = tmp_path / "script.py"
    script.write_text(RIGHT.replace('"name=q"', "print"), "utf-8")
    assert command("check", str(script)).code == 0
    done = command("check", "--strict", str(script))
    assert done.code == 9
    assert f"{script}:3: warning: only a run would show what this sets" in done.out


def test_json(command: Command, tmp_path: Path) -> None:
    """Everything for a program, also where nothing is wrong."""
    config = tmp_path / "kamailio.cfg"
    lines = ['loadmodule "app_python3.so"', 'modparam("app_python3", "load", "script.py")', "#!ifdef NATIVE", "#!else"]
    config.write_text("\n".join([*lines, 'cfgengine "python"', "#!endif"]), "utf-8")
    (tmp_path / "script.py").write_text(RIGHT, "utf-8")
    done = command("check", "--json", str(config))
    assert done.code == 9
    found = done.json()
    assert found["problems"] == [
        {
            "file": str(config),
            "line": 5,
            "level": "error",
            "text": "cfgengine: the script has no method ksr_request_route",
        }
    ]
    assert (found["kind"], found["queues"]) == ("kamailio.cfg", ["q"])
    assert found["files"] == [str(config), str(tmp_path / "script.py")]
    done = command("check", "--json", "-A", "NATIVE", str(config))
    assert (done.code, done.json()["problems"]) == (0, [])
