"""The README's example of a test is one that passes."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kemi.testing import FakeKSR

CHECKOUT = Path(__file__).parents[2]


def examples() -> dict[str, Any]:
    text = (CHECKOUT / "README.md").read_text("utf-8")
    (block,) = [each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "run_route" in each]
    scope: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), scope)  # noqa: S102 it is ours
    return {name: value for name, value in scope.items() if name.startswith("test_")}


EXAMPLES = examples()


def test_there_are_some() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example(name: str, ksr: FakeKSR, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    example = EXAMPLES[name]
    example(**{"ksr": ksr} if "ksr" in inspect.signature(example).parameters else {})
