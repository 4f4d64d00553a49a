# SPDX-License-Identifier: 0BSD
"""A stand-in for the directory: an HTTP server that takes its time. python3 -m conf.ask.directory [PORT [SECONDS]]."""

from __future__ import annotations

import asyncio
import sys

PORT, SECONDS = 8080, 0.2


async def serve(port: int, seconds: float) -> None:
    """Answer GET /NUMBER after so many seconds; numbers that begin with 0 are unknown."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            number = head.split(b" ", 2)[1].decode().strip("/")
            await asyncio.sleep(seconds)
            status, body = ("404 Not Found", "") if number.startswith("0") else ("200 OK", f"sip:{number}@192.0.2.1")
            writer.write(f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    port, seconds = [*sys.argv[1:], *map(str, (PORT, SECONDS)[len(sys.argv) - 1 :])]
    asyncio.run(serve(int(port), float(seconds)))
