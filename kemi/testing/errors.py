# SPDX-License-Identifier: GPL-2.0-or-later
"""How the fake fails. Not by Exception: a script's own `except Exception` must not hide it from the test."""

from __future__ import annotations


class FakeError(BaseException):
    """The test has to look at this."""


class NotCovered(FakeError):
    """The fake does not know what the server would do; the message says how a test can say it."""


class SilentMistake(FakeError):
    """The server would take this without an error, and not do what the script means."""
