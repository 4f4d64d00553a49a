"""The stub that is shipped for mqueue_kemi is that of the module as it is."""

from __future__ import annotations

from docs.share import make, stubs

STUB = "kemi/testing/stubs/mqueue_kemi-stubs/__init__.pyi"


def test_current() -> None:
    assert (make.CHECKOUT / STUB).read_text("utf-8") == make.FILES[STUB](), "run python3 -m docs.share.make"


def test_what_a_stub_has() -> None:
    """Public names with their signatures, decorators and docstrings; what they need; nothing private."""
    source = '''"""A module."""
from __future__ import annotations
import os
from typing import overload
from kemi.errors import ConfigError, MqueueError as _Error
__all__ = ["ConfigError", "f"]
_hidden = 1
@overload
def f(a: None) -> int: ...
@overload
def f(a: _Error, *, b: str = "x") -> str: ...
def f(a, *, b="x"):
    r"""Give \\d."""
    return os.name
def _private() -> None: ...
'''
    assert stubs.of(source).splitlines()[1:] == [
        '"""A module."""',
        "from __future__ import annotations",
        "",
        "from typing import overload",
        "from kemi.errors import ConfigError as ConfigError",
        "from kemi.errors import MqueueError as _Error",
        "",
        "__version__: str",
        "",
        "__all__ = [",
        '    "ConfigError",',
        '    "f",',
        "]",
        "",
        "@overload",
        "def f(a: None) -> int: ...",
        "",
        "@overload",
        "def f(a: _Error, *, b: str='x') -> str: ...",
    ]
