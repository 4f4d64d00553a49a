# SPDX-License-Identifier: GPL-2.0-or-later
"""The argument of each route: app_python3's own view of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kemi.testing import uri
from kemi.testing.errors import NotCovered

if TYPE_CHECKING:
    from kemi.testing.fake import FakeKSR


class Msg:
    """Router.msg of app_python3. What a message has not raises RuntimeError, as there."""

    def __init__(self, ksr: FakeKSR) -> None:
        message = ksr.state.message
        self._state = ksr.state
        self._message = message
        self.Type = "SIP_REQUEST" if message.is_request else "SIP_REPLY"

    @property
    def Method(self) -> str:  # noqa: N802 the server's name
        """Of a request."""
        if not self._message.is_request:
            raise RuntimeError("Not a request message - no method available.\n")
        return self._message.method

    @property
    def RURI(self) -> str:  # noqa: N802
        """Of a request, as it came in."""
        if not self._message.is_request:
            raise RuntimeError("Not a request message - RURI is not available.\n")
        return self._message.uri

    @property
    def Status(self) -> str:  # noqa: N802
        """Of a reply."""
        if self._message.is_request:
            raise RuntimeError("Not a non-reply message - no status available.\n")
        return str(self._message.status)

    @property
    def src_address(self) -> tuple[str, int]:
        """Where it came from."""
        return self._message.source

    @property
    def dst_address(self) -> tuple[str, int]:
        """Where it came to."""
        return self._message.received

    def getHeader(self, name: str) -> str | None:  # noqa: N802
        """The body of the first header of a name."""
        return self._message.first(name)

    def rewrite_ruri(self, text: str) -> None:
        """Set the request's URI."""
        self._state.new_uri = text

    def set_dst_uri(self, text: str) -> None:
        """Set the destination."""
        if uri.parse(text) is None:
            raise RuntimeError(f"set_dst_uri({text!r}): not a URI")
        self._state.destination = text

    def __getattr__(self, name: str) -> Any:
        if name in ("call_function", "copy"):
            raise NotCovered(f"msg.{name} is not covered by the fake: use KSR, which has it too")
        raise AttributeError(f"'Router.msg' object has no attribute '{name}'")
