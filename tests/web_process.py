"""onebox's servers as a person runs them: the real command in a process of its own, on a free port of this machine.
Gives its address and the process; ends it, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.small_runs import environment


@dataclass
class Server:
    """A command that serves. `lines` is what it has said on standard error so far."""

    process: subprocess.Popen[bytes]
    url: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def memory(self) -> int:
        """Bytes that it holds in memory now."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, seconds: float = 12) -> int:
        """SIGTERM, and its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def running(
    *words: str | os.PathLike[str], seconds: float = 60, module: str = "onebox", **more: str
) -> Generator[Server, None, None]:
    """`onebox WORDS... --port 0` until the block ends; `more` are environment variables, `module` another that takes
    the same words. Fails where it does not say its address within `seconds`."""
    command = [sys.executable, "-m", module, *words, "--port", "0"]
    process = subprocess.Popen(command, env=environment(**more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    server, said = Server(process), threading.Event()

    def listen() -> None:
        assert process.stderr is not None
        for raw in process.stderr:
            line = raw.decode().rstrip()
            server.lines.append(line)
            if not said.is_set() and (found := re.search(r"https?://\S+:\d+/", line)):
                server.url = found[0]
                said.set()
        said.set()

    ear = threading.Thread(target=listen, daemon=True)
    ear.start()
    try:
        assert said.wait(seconds), f"no address after {seconds} s: {server.lines}"
        assert server.url, f"it ended: {server.lines}"
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(12)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        ear.join(5)
        assert process.stderr is not None
        process.stderr.close()
