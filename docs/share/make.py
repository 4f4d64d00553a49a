# SPDX-License-Identifier: GPL-2.0-or-later
"""Make what is shipped beside the modules from the modules themselves: manual page, shell completion, type stubs.

    python3 -m docs.share.make            write the files anew (the completion needs shtab)
    python3 -m docs.share.make --check    end with 1 if one of them is not what would be written

Each maker below returns the text of its file. `tox -e package` checks that the files in the checkout are current.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from docs.share import manual, stubs
from kemi.cli.usage.commands import parser
from kemi.names import DB_URL_VARIABLE, INSTANCE_VARIABLE, OWNER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[2]

# Names of queues and instances, as they are at the time of the completion.
_BASH = """
_mqueue_kemi_queues() {
  local instance=() at
  for ((at = 1; at < COMP_CWORD; at++)); do
    [[ ${COMP_WORDS[at]} == --instance ]] && instance=(--instance "${COMP_WORDS[at + 1]}")
  done
  compgen -W "$(mqueue-kemi sizes "${instance[@]}" 2>/dev/null | cut -f1)" -- "$1"
}
_mqueue_kemi_instances() {
  compgen -W "$(mqueue-kemi instances 2>/dev/null | sed -n '2,$s/ .*//p')" -- "$1"
}
"""
_ZSH = """
_mqueue_kemi_queues() {
  local instance=() at=${words[(I)--instance]}
  (( at )) && instance=(--instance "${words[at + 1]}")
  local -a names=(${(f)"$(mqueue-kemi sizes $instance 2>/dev/null | cut -f1)"})
  compadd -a names
}
_mqueue_kemi_instances() {
  local -a names=(${(f)"$(mqueue-kemi instances 2>/dev/null | sed -n '2,$s/ .*//p')"})
  compadd -a names
}
"""


def command_line() -> argparse.ArgumentParser:
    """Return the parser of mqueue-kemi as it is for a user who has set nothing."""
    for name in (INSTANCE_VARIABLE, DB_URL_VARIABLE, OWNER_VARIABLE):
        os.environ.pop(name, None)
    return parser()


def _completed(one: argparse.ArgumentParser) -> None:
    for action in one._actions:  # noqa: SLF001 - argparse has no public list of them
        name = next((name for name in ("queue", "instance") if action.dest == name), None)
        if name:
            action.complete = dict.fromkeys(("bash", "zsh"), f"_mqueue_kemi_{name}s")  # type: ignore[attr-defined]
        elif action.dest == "output":
            import shtab

            action.complete = shtab.FILE  # type: ignore[attr-defined]


def completion(shell: str) -> str:
    """Return the completion for bash or zsh."""
    import shtab

    whole = command_line()
    _completed(whole)
    for one in manual.commands(whole).values():
        _completed(one)
    text: str = shtab.complete(whole, shell, preamble={"bash": _BASH, "zsh": _ZSH})
    return text.rstrip() + "\n"


FILES: dict[str, Callable[[], str]] = {
    "docs/share/man/man1/mqueue-kemi.1": lambda: manual.page(command_line()),
    "docs/share/bash-completion/completions/mqueue-kemi": lambda: completion("bash"),
    "docs/share/zsh/site-functions/_mqueue-kemi": lambda: completion("zsh"),
    "kemi/testing/stubs/mqueue_kemi-stubs/__init__.pyi": lambda: stubs.of(
        (CHECKOUT / "mqueue_kemi.py").read_text("utf-8")
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Write or check all files."""
    stale = []
    for name, make in FILES.items():
        path, text = CHECKOUT / name, make()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"{name} is written")
    if "--check" not in arguments:
        return 0
    for name in stale:
        print(f"{name} is not current: run python3 -m docs.share.make", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
