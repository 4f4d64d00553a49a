# SPDX-License-Identifier: 0BSD
"""The worker: asks a directory over HTTP where a number is, 200 at a time, and what it returns is the answer.

    LOOKUP_URL=http://directory.example/ mqueue-kemi work conf.ask.lookup:look_up

A directory that is away is tried again, while somebody still waits: the worker pauses, and no question is lost.
HTTP is spoken by hand here, so that nothing need be installed; aiohttp or httpx do it in one line, with a session as
`resource`.
"""

from __future__ import annotations

import asyncio
import os
from urllib.parse import quote, urlsplit

from mqueue_kemi import Reject, ReservedItem, worker

FOUND, NOT_FOUND = 200, 404


@worker("lookups", concurrency=200, timeout=5)
async def look_up(question: ReservedItem) -> str:
    """Return the URI of a number. The caller's call goes on with it."""
    status, body = await asyncio.wait_for(get(quote(question.key)), question.left)
    if status == NOT_FOUND:
        raise Reject("unknown number")
    if status != FOUND:
        raise ConnectionError(f"the directory says {status}")
    return body.strip()


async def get(path: str) -> tuple[int, str]:
    """GET a path below LOOKUP_URL. Returns status and body."""
    url = urlsplit(os.environ.get("LOOKUP_URL", "http://127.0.0.1:8080/"))
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 80)
    try:
        writer.write(f"GET {url.path}{path} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    finally:
        writer.close()
    return int(head.split(" ", 2)[1]), body
