"""`onebox serve` under load and under attack, on this machine, with real processes: the figures of docs/serving.md.

    python -m benchmarks.serve MODEL PICTURES [--only capacity,overload,drain,growth,loris,malformed,conformance]

Throughputs are ratios within one run, measured in turns; times stand beside those of a bare server under the same
neighbours. The server has one core, the load generator the others.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.hostile_clients import send_malformed, slow_senders
from tests.web_process import Server, running

#: Every address that works on what it is sent, and one that does not.
ROUTES = (("POST", "/v1/predict"), ("POST", "/v2/models/run/infer"), ("GET", "/v1/model"), ("GET", "/metrics"))
TICK = os.sysconf("SC_CLK_TCK")


def load(server: Server, files: Sequence[Path] = (), **options: object) -> dict[str, Any]:
    """Runs the generator to its end; see benchmarks/load.py for `options`."""
    return result(start_load(server, files, **options))


def start_load(server: Server, files: Sequence[Path] = (), **options: object) -> subprocess.Popen[bytes]:
    words = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "benchmarks.load", server.url, *words]
    if files:
        command += ["--files", *map(str, files)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def result(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a generator reports, once it has come to its end."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def counts(report: dict[str, Any]) -> dict[str, int]:
    """Answers by status."""
    return {status: facts["count"] for status, facts in report["statuses"].items()}


def cpu_seconds(server: Server) -> float:
    """Of the server's process so far."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def on_cores(cores: set[int]) -> Generator[None, None, None]:
    """Processes started inside run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# ---- throughput ----


def bare_capacity(model: Path, files: Sequence[Path], seconds: float, threads: int) -> tuple[float, float]:
    """Pictures a second, and a second of CPU, of the runtime alone: decode and run in batches of 8, no HTTP. In a
    process of its own."""
    program = (
        "import sys,time,itertools,threading,onebox\n"
        "model=onebox.load(sys.argv[1],threads=1); files=[open(f,'rb').read() for f in sys.argv[4:]]\n"
        "end=time.perf_counter()+float(sys.argv[2]); done=[0]*int(sys.argv[3])\n"
        "def work(i):\n"
        "    for n in itertools.count(i):\n"
        "        if time.perf_counter()>end: return\n"
        "        model.answer([files[(8*n+k)%len(files)] for k in range(8)]); done[i]+=8\n"
        "model.answer(files[:8]); start=time.perf_counter(); cpu=time.process_time()\n"
        "threads=[threading.Thread(target=work,args=(i,)) for i in range(len(done))]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(sum(done)/(time.perf_counter()-start), sum(done)/(time.process_time()-cpu))\n"
    )
    command = [sys.executable, "-c", program, str(model), str(seconds), str(threads), *map(str, files)]
    out = subprocess.run(command, capture_output=True, check=True).stdout.split()
    return float(out[0]), float(out[1])


def capacity(model: Path, files: Sequence[Path], *, rounds: int = 5, seconds: float = 4) -> dict[str, float]:
    """The server's pictures a second at its peak (16 requests in flight), as a share of the bare runtime's on the same
    core; by the clock, and by the CPU time that each took for a picture."""
    wall: list[float] = []
    cpu: list[float] = []
    peaks: list[float] = []
    with on_cores({0}):
        server_context = running("serve", model, "--threads", "1")
        server = server_context.__enter__()
    try:
        load(server, files, seconds=2, connections=16)
        for _ in range(rounds):
            with on_cores({0}):
                bare = bare_capacity(model, files, seconds, 1)
            before = cpu_seconds(server)
            with on_cores(os.sched_getaffinity(0) - {0}):
                report = load(server, files, seconds=seconds, connections=16)
            answered = counts(report).get("200", 0)
            peaks.append(answered / report["seconds"])
            wall.append(peaks[-1] / bare[0])
            cpu.append(answered / (cpu_seconds(server) - before) / bare[1])
    finally:
        server_context.__exit__(None, None, None)
    return {
        "peak_per_second": statistics.median(peaks),
        "share_by_clock": statistics.median(wall),
        "share_by_cpu": statistics.median(cpu),
    }


# ---- overload ----

_CONTROL = """
import asyncio
class Answer(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def control_server() -> Generator[Server, None, None]:
    """A bare asyncio server that answers "ok": what a time measured here owes to the machine, not to onebox."""
    process = subprocess.Popen([sys.executable, "-c", _CONTROL], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield Server(process, process.stdout.readline().decode().strip())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _probed(
    server: Server, control: Server, files: Sequence[Path], **options: Any
) -> tuple[dict[str, Any], float, dict[str, Any], dict[str, Any]]:
    """The generator's report, seconds of CPU of the server, and what two probes saw meanwhile: of its /health/live, and
    of a bare server. All begin at one moment, when their programs have started: a program that starts takes the
    generator's core, and times taken by the generator then are of that."""
    # one process after the other wants the core to start on
    options["start-at"] = time.time() + 3
    generator = start_load(server, files, **options)
    options = {"seconds": options["seconds"], "start-at": options["start-at"], "connections": 1, "rate": 50}
    probes = [start_load(place, path="/health/live", **options) for place in (server, control)]
    time.sleep(options["start-at"] - time.time())
    before = cpu_seconds(server)
    report = result(generator)
    spent = cpu_seconds(server) - before
    live, bare = (result(probe) for probe in probes)
    return report, spent, live, bare


def overload(model: Path, files: Sequence[Path], *, times: float = 10, seconds: float = 6) -> dict[str, Any]:
    """Goodput at so many times the peak rate as a share of the peak; how long a refusal takes; how long /health/live
    takes meanwhile, and a bare server's answer beside it on the same core."""
    others = os.sched_getaffinity(0) - {0}
    with on_cores({0}):
        server_context, control_context = running("serve", model, "--threads", "1"), control_server()
        server, control = server_context.__enter__(), control_context.__enter__()
    try:
        with on_cores(others):
            load(server, files, seconds=2, connections=16)
            calm, peak_cpu, _, _ = _probed(server, control, files, seconds=seconds, connections=16)
            peak = counts(calm)["200"] / calm["seconds"]
            report, storm_cpu, live, bare = _probed(
                server, control, files, seconds=seconds, connections=256, rate=peak * times
            )
    finally:
        control_context.__exit__(None, None, None)
        server_context.__exit__(None, None, None)
    answered = counts(report).get("200", 0)
    return {
        "peak_per_second": peak,
        "times_offered": sum(counts(report).values()) / report["seconds"] / peak,
        "goodput_share_by_clock": answered / report["seconds"] / peak,
        "goodput_share_by_cpu": (answered / storm_cpu) / (counts(calm)["200"] / peak_cpu),
        "answers": report["statuses"],
        "broken": report["broken"],
        "live_ms": live["statuses"]["200"],
        "bare_server_ms": bare["statuses"]["200"],
    }


# ---- the end ----


def drain(model: Path, files: Sequence[Path], *, seed: int) -> dict[str, Any]:
    """SIGTERM amid load: every request that was sent has its whole answer, and the process ends. Connections are not
    opened again, so that whatever is missing was taken and lost."""
    with running("serve", model) as server:
        process = start_load(server, files, seconds=30, connections=24, once=True)
        _await_answers(server, 50)
        time.sleep(random.Random(seed).random())
        started = time.perf_counter()
        status = server.stop(30)
        took = time.perf_counter() - started
        report = result(process)
    return {"seconds": took, "exit": status, "answers": counts(report), "lost": report["broken"]}


def _await_answers(server: Server, count: int, seconds: float = 60) -> None:
    """Until it has answered so many pictures."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        with urllib.request.urlopen(f"{server.url}metrics", timeout=30) as answer:
            found = re.search(rb'onebox_pictures_total{outcome="answered"} (\S+)', answer.read())
        if found is not None and float(found[1]) >= count:
            return
        time.sleep(0.05)
    raise TimeoutError(f"not {count} answers within {seconds} s")


# ---- memory ----


def mixed_files(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Four good pictures to one bad: cut off, empty, text, a claim of a billion pixels, wrong ending."""
    good = list(files)[:16]
    first = good[0].read_bytes()
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (30_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bad: list[Path] = []
    for name, content in (
        ("cut.jpg", first[: len(first) // 2]),
        ("empty.jpg", b""),
        ("text.jpg", b"text" * 99),
        ("claim.png", header),
    ):
        (folder / name).write_bytes(content)
        bad.append(folder / name)
    mixed: list[Path] = []
    for i, path in enumerate(good):
        mixed.append(path)
        if i % 4 == 3:
            mixed.append(bad[i // 4 % 4])
    return mixed


def growth(server: Server, mixed: Sequence[Path], *, warm: int, requests: int) -> dict[str, Any]:
    """Bytes by which the server's memory grows over so many requests, after `warm` ones that do not count."""
    load(server, mixed, seconds=600, connections=8, count=warm)
    before = server.memory()
    report = load(server, mixed, seconds=600, connections=8, count=requests)
    return {"bytes": server.memory() - before, "answers": counts(report), "broken": report["broken"]}


# ---- slow senders ----


def loris(model: Path, files: Sequence[Path], *, count: int = 500, seconds: float = 8) -> dict[str, float]:
    """p99 of 4 requests in flight without slow senders and with them, in milliseconds; the median of three turns."""
    pairs: list[tuple[float, float]] = []
    with running("serve", model) as server:
        load(server, files, seconds=2, connections=4)
        for _ in range(3):
            calm = load(server, files, seconds=seconds, connections=4)
            with slow_senders(server.port, count):
                beset = load(server, files, seconds=seconds, connections=4)
            assert set(counts(beset)) == {"200"}
            pairs.append((calm["statuses"]["200"]["p99"], beset["statuses"]["200"]["p99"]))
    calm_p99, beset_p99 = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {"calm_p99_ms": calm_p99, "beset_p99_ms": beset_p99, "ratio": statistics.median(b / a for a, b in pairs)}


# ---- the OpenAPI file ----


def conformance(model: Path, *, examples: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """schemathesis over the OpenAPI file, with a token: no server error, every answer as the file says, the token
    wanted everywhere, what breaks the file's rules refused. Left out is one check, that whatever keeps the rules is
    accepted: no schema can say that a file is a picture."""
    token = folder / "token"
    token.write_text("a-token-for-schemathesis")
    program = Path(sys.executable).parent / "schemathesis"
    with running("serve", model, "--token-file", token) as server:
        command = [
            program,
            "run",
            f"{server.url}openapi.json",
            "--header",
            f"Authorization: Bearer {token.read_text()}",
        ]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--generation-database"]
        command += [
            "none",
            "--exclude-checks",
            "positive_data_acceptance",
            "--suppress-health-check",
            "all",
            "--no-color",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert server.process.poll() is None
    return done


# ---- all of it ----


def photos(folder: Path, files: Sequence[Path]) -> list[Path]:
    """The pictures at the size of an ordinary photo."""
    made: list[Path] = []
    for path in files[:12]:
        made.append(folder / f"{path.stem}.jpg")
        Image.open(path).convert("RGB").resize((1600, 1200), Image.Resampling.BICUBIC).save(made[-1], quality=88)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--only", default="capacity,overload,drain,growth,loris,malformed,conformance")
    asked = parser.parse_args()
    small = sorted(asked.pictures.glob("*.jpg"))[:40]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = photos(folder, small)
        for what in asked.only.split(","):
            print(f"{what}, load average {os.getloadavg()[0]:.1f}", flush=True)
            for line in _measure(what, asked.model, small, large, folder):
                print(f"  {line}", flush=True)


def _measure(what: str, model: Path, small: list[Path], large: list[Path], folder: Path) -> Generator[object]:
    if what in {"capacity", "overload"}:
        measure = capacity if what == "capacity" else overload
        yield "small pictures", measure(model, small)
        yield "photos of 1600x1200", measure(model, large)
    elif what == "drain":
        for seed in range(20):
            yield drain(model, small, seed=seed)
    elif what == "growth":
        with running("serve", model) as server:
            yield growth(server, mixed_files(folder, small), warm=1000, requests=10_000)
    elif what == "loris":
        yield loris(model, small)
    elif what == "malformed":
        with running("serve", model) as server:
            for route in ROUTES:
                yield route, send_malformed(server.port, route, 500, seed=1)
    elif what == "conformance":
        done = conformance(model, examples=1000, folder=folder)
        yield done.returncode
        yield from done.stdout.splitlines()[-16:]


if __name__ == "__main__":
    main()
