"""Clients that mean no good, for the measurements of benchmarks/serve.py and the tests: senders that never finish, and
requests that are none. They talk to a port of this machine and say what came back.
"""

from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

# ---- slow senders ----


@contextmanager
def slow_senders(port: int, count: int) -> Generator[list[socket.socket], None, None]:
    """So many connections that send a byte a second: half of them of a head that never ends, half of a body."""
    stop = threading.Event()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
    body = head + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n"
    starts = [head + b"X-Slow: ", body]
    sockets: list[socket.socket] = []

    def connect(i: int) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port), timeout=20)
        made.sendall(starts[i % 2])
        made.setblocking(False)
        return made

    def trickle() -> None:
        while not stop.wait(1):
            for i, one in enumerate(sockets):
                try:
                    one.send(b"a")
                except BlockingIOError:
                    pass
                except OSError:  # given up by the server: the attacker comes again
                    one.close()
                    sockets[i] = connect(i)

    sockets += [connect(i) for i in range(count)]
    sender = threading.Thread(target=trickle, daemon=True)
    sender.start()
    try:
        yield sockets
    finally:
        stop.set()
        sender.join()
        for one in sockets:
            one.close()


# ---- nonsense ----


def malformed(dice: random.Random, verb: str, path: str) -> bytes:
    """Bytes that are not quite a request to this address."""
    body = dice.randbytes(dice.randrange(200))
    lines = [f"{verb} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines.append(
        "Content-Type: " + dice.choice(["multipart/form-data; boundary=x", "application/json", "\x00", "a" * 9000])
    )
    good = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    odd_versions = [b"HTTP/9.9", b"HTTP/1.", b"", b"HTTP/1.1 x", b"HTCPCP/1.0"]
    odd_lengths = [b"Content-Length: -", b"Content-Length: 9e9", b"Content-Length:\x00"]
    odd_ends = [b"\n", b"\r", b"\r\n\r\n", b"\n\r"]
    odd_paths = [b"*", b"http://[", b"//", b"%00%ff", b"/" * 5000, b"a:b:c", path.encode() + dice.randbytes(30)]
    odd_verbs = [b"CONNECT", b"PRI", b"get", b"\xff", b"A" * 500]
    coding = b"Transfer-Encoding: " + dice.randbytes(6).hex().encode()
    ways: list[Callable[[], bytes]] = [
        lambda: dice.randbytes(dice.randrange(1, 2000)),
        lambda: good[: dice.randrange(len(good))],
        lambda: _with_noise(dice, good),
        lambda: good.replace(b"HTTP/1.1", dice.choice(odd_versions)),
        lambda: good.replace(b"Content-Length: ", dice.choice(odd_lengths)),
        lambda: good.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", 1),
        lambda: good.replace(b"Host", coding + b"\r\nHost", 1),
        lambda: good.replace(b"\r\n", dice.choice(odd_ends)),
        lambda: good.replace(path.encode(), dice.choice(odd_paths)),
        lambda: good.replace(verb.encode(), dice.choice(odd_verbs), 1),
        lambda: good.replace(b"Host: localhost", b"Host: " + dice.randbytes(20)),
        lambda: b"\r\n".join([good.split(b"\r\n")[0], b"A: b\r\n" * dice.randrange(3000), b""]),
    ]
    return dice.choice(ways)()


def _with_noise(dice: random.Random, good: bytes) -> bytes:
    noisy = bytearray(good)
    for _ in range(dice.randrange(1, 6)):
        noisy[dice.randrange(len(noisy))] = dice.randrange(256)
    return bytes(noisy)


def send_malformed(port: int, route: tuple[str, str], count: int, *, seed: int) -> int:
    """Sends so many, each on a connection of its own; how many were answered with 2xx or 4xx, or closed without a
    word. Anything else - 5xx, no end within 20 s - is an AssertionError."""

    def send(i: int) -> None:
        request = malformed(random.Random(f"{seed} {route} {i}"), *route)
        got = b""
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    got += part
                    if b"\r\n\r\n" in got and not _unfinished(got):
                        break
            except (ConnectionResetError, BrokenPipeError):
                pass
        statuses = re.findall(rb"HTTP/1\.1 (\d)\d\d ", got)
        assert all(status in {b"2", b"4", b"1"} for status in statuses), (request[:300], got[:300])

    with ThreadPoolExecutor(16) as threads:
        return len(list(threads.map(send, range(count))))


def _unfinished(got: bytes) -> bool:
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return length is not None and len(body) < int(length[1])
