"""`onebox serve` under load: what it answers while it is stopped, flooded, or fed nonsense, and what that costs it. The
same measurements as benchmarks/serve.py, smaller; the figures that want a quiet machine are taken there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hostile_clients import slow_senders
from benchmarks.serve import (
    conformance,
    control_server,
    counts,
    drain,
    growth,
    load,
    mixed_files,
    result,
    start_load,
)
from tests.serving import picture
from tests.web_process import Server, running

MIB = 1 << 20


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(16):
        (folder / f"{i:02}.jpg").write_bytes(picture(i, (320, 240), "JPEG", quality=90))
    return sorted(folder.glob("*.jpg"))


@pytest.fixture
def server(tiny_run: Path) -> Iterator[Server]:
    with running("serve", tiny_run, "--threads", "1", "--queue", "8") as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_sigterm_under_load_loses_no_request_that_was_taken(tiny_run: Path, pictures: list[Path], seed: int) -> None:
    ended = drain(tiny_run, pictures, seed=seed)
    assert ended["lost"] == 0
    assert ended["answers"]["200"] > 20
    assert set(ended["answers"]) <= {"200", "503"}
    assert ended["seconds"] < 10


@pytest.mark.slow
def test_a_flood_is_turned_away_and_what_is_taken_is_answered(server: Server, pictures: list[Path]) -> None:
    calm = load(server, pictures, seconds=2, connections=4)
    rate = 10 * counts(calm)["200"] / 2
    storm = start_load(server, pictures, seconds=4, connections=128, rate=rate)
    with control_server() as control:
        probes = [start_load(s, seconds=3, connections=1, rate=20, path="/health/live") for s in (server, control)]
        live, bare = (result(probe) for probe in probes)
    report = result(storm)
    answers = counts(report)
    assert set(answers) == {"200", "503"}
    assert report["broken"] == 0
    assert answers["503"] > answers["200"] > 0
    # a refusal does not wait for the work that is taken; on a busy machine both wait for the machine
    assert report["statuses"]["503"]["p50"] < report["statuses"]["200"]["p50"] / 2
    assert live["statuses"]["200"]["p50"] < 100 + 10 * bare["statuses"]["200"]["p50"]
    assert counts(load(server, pictures, seconds=1, connections=2)).keys() == {"200"}, "and then it is as before"


@pytest.mark.slow
def test_memory_stays_where_it_is_and_a_leak_would_be_seen(
    tiny_run: Path, pictures: list[Path], tmp_path: Path
) -> None:
    mixed = mixed_files(tmp_path, pictures)
    with running("serve", tiny_run) as server:
        sound = growth(server, mixed, warm=400, requests=2000)
    assert (sound["broken"], sum(sound["answers"].values())) == (0, 2000)
    assert 350 < sound["answers"]["422"] < 450, "a fifth of them is bad"
    assert sound["bytes"] < 20 * MIB
    with running("serve", tiny_run, module="tests.leaky_serve") as server:
        leaky = growth(server, mixed, warm=400, requests=2000)
    assert leaky["bytes"] > sound["bytes"] + 20 * MIB


@pytest.mark.slow
def test_slow_senders_hold_nobody_up(tiny_run: Path, pictures: list[Path]) -> None:
    with running("serve", tiny_run) as server:
        calm = load(server, pictures, seconds=3, connections=4)
        with slow_senders(server.port, 200):
            beset = load(server, pictures, seconds=3, connections=4)
    assert (set(counts(beset)), beset["broken"]) == ({"200"}, 0)
    assert beset["statuses"]["200"]["p50"] < 3 * calm["statuses"]["200"]["p50"]


@pytest.mark.slow
def test_the_openapi_file_tells_the_truth(tiny_run: Path, tmp_path: Path) -> None:
    done = conformance(tiny_run, examples=60, folder=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "11 selected / 11 total" in done.stdout
