"""A bounded load generator for HTTP on this machine, run as a process of its own: so many connections and no more,
either as fast as answers come or at a fixed rate. Prints one JSON line: answers by status, their times in
milliseconds, what was not sent, and connections that ended before the answer.

    python -m benchmarks.load URL --seconds 5 --connections 8 [--rate 500] [--files a.jpg b.jpg] [--path /v1/predict]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
BOUNDARY = "onebox-load"


@dataclass
class Tally:
    """What came back. Times in seconds by status; `broken`: connections that ended before a whole answer."""

    times: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    broken: int = 0
    unsent: int = 0

    def report(self, seconds: float) -> dict[str, object]:
        statuses = {}
        for status, times in sorted(self.times.items()):
            ordered = sorted(times)
            at = {f"p{q}": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 2) for q in (50, 99)}
            statuses[str(status)] = {"count": len(ordered), **at, "max": round(1000 * ordered[-1], 2)}
        return {"seconds": round(seconds, 3), "statuses": statuses, "broken": self.broken, "unsent": self.unsent}


class Connection(asyncio.Protocol):
    """One request at a time on one kept connection, opened again where the server closes it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.started = 0.0
        self.buffer = b""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.busy:
            self.busy = False
            self.pool.tally.broken += 1
        self.pool.lost(self)

    def send(self, request: bytes) -> None:
        assert self.transport is not None
        self.started, self.buffer, self.busy = time.perf_counter(), b"", True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found or not self.busy:
            return
        length = _LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return
        self.busy = False
        self.pool.tally.times[int(head[9:12])].append(time.perf_counter() - self.started)
        if b"connection: close" in head.lower():
            assert self.transport is not None
            self.transport.close()
        else:
            self.pool.done(self)


class Pool:
    """The connections, and what is sent on them next."""

    def __init__(self, host: str, port: int, requests: list[bytes], most: int) -> None:
        # left: requests still to be sent where their number is given, else -1
        self.host, self.port, self.requests, self.most = host, port, requests, most
        self.tally = Tally()
        self.idle: list[Connection] = []
        self.open = 0
        self.next = 0
        self.endless = False
        self.ending = False
        self.reconnect = True
        self.left = -1

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, made = await loop.create_connection(lambda: Connection(self), self.host, self.port)
            self.open += 1
            self.idle.append(made)

    def request(self) -> bytes:
        self.next += 1
        return self.requests[self.next % len(self.requests)]

    def done(self, connection: Connection) -> None:
        if self.endless and not self.ending and self.left != 0:
            self.left -= self.left > 0
            connection.send(self.request())
        else:
            self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        if not self.ending and self.reconnect:
            asyncio.ensure_future(self._again())  # noqa: RUF006 - it lives as long as the pool

    async def _again(self) -> None:
        try:
            await self.connect(1)
        except OSError:
            self.tally.broken += 1
            return
        if self.endless:
            self.done(self.idle.pop())


async def run(pool: Pool, seconds: float, rate: float | None, start_at: float = 0) -> float:
    """Seconds it took until the last answer was there."""
    await pool.connect(pool.most)
    await asyncio.sleep(max(0, start_at - time.time()))
    started = time.perf_counter()
    if rate is None:
        pool.endless = True
        ready, pool.idle = pool.idle, []
        for connection in ready:
            pool.done(connection)
        while time.perf_counter() - started < seconds and pool.open and (pool.left or len(pool.idle) < pool.open):
            await asyncio.sleep(0.005)
    else:
        sent = 0
        while (passed := time.perf_counter() - started) < seconds:
            due = int(passed * rate) - sent
            sent += due
            usable = [pool.idle.pop() for _ in range(min(due, len(pool.idle)))]
            pool.tally.unsent += due - len(usable)
            for connection in usable:
                connection.send(pool.request())
            await asyncio.sleep(0.001)
    pool.ending = True
    took = time.perf_counter() - started
    deadline = time.perf_counter() + 15
    while len(pool.idle) < pool.open and time.perf_counter() < deadline:
        await asyncio.sleep(0.005)
    return took


def predict_request(host: str, pictures: list[tuple[str, bytes]], path: str = "/v1/predict", token: str = "") -> bytes:
    """One POST as it goes over the wire."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in pictures
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float, help="requests a second  [default: as fast as answers come]")
    parser.add_argument("--start-at", type=float, default=0, help="time.time() of the first request, or later")
    parser.add_argument("--count", type=int, default=-1, help="requests at most")
    parser.add_argument("--once", action="store_true", help="do not connect again where the server closes")
    parser.add_argument("--files", type=Path, nargs="*", default=[])
    parser.add_argument("--path", default="/v1/predict")
    asked = parser.parse_args()
    place = urlsplit(asked.url)
    if asked.files:
        requests = [predict_request(place.netloc, [(f.name, f.read_bytes())], asked.path) for f in asked.files]
    else:
        requests = [f"GET {asked.path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()]
    assert place.hostname
    assert place.port
    gc.freeze()
    pool = Pool(place.hostname, place.port, requests, asked.connections)
    pool.left, pool.reconnect = asked.count, not asked.once
    took = asyncio.run(run(pool, asked.seconds, asked.rate, asked.start_at))
    print(json.dumps(pool.tally.report(took)))


if __name__ == "__main__":
    main()
