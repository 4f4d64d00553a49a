# SPDX-License-Identifier: 0BSD
"""The same routing as most tutorials have it: the SIP worker itself waits for the directory. Only for demo.sh --ask."""

from __future__ import annotations

import os
import urllib.request

import KSR
import routing  # type: ignore[import-not-found]  # beside this file; it puts mqueue_kemi on Python's path

import mqueue_kemi


class Script(routing.Script):  # type: ignore[misc]
    """Waits where the other one asks."""

    def route_call(self) -> None:
        if KSR.tm.t_newtran() <= 0:
            return
        with urllib.request.urlopen(os.environ["LOOKUP_URL"] + KSR.pv.gete("$rU"), timeout=2) as reply:  # noqa: S310
            routing.redirect(reply.read().decode())


def mod_init() -> object:
    """Make the queues and give app_python3 its handler."""
    return mqueue_kemi.mod_init(Script())
