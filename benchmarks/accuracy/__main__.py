"""The command `python -m benchmarks.accuracy`: goes through sets, seeds and methods, skips the runs that have a row,
and prints what the rows say. The work is in the modules beside it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy.answers import Job, score
from benchmarks.accuracy.methods import METHODS, Tools
from benchmarks.accuracy.plan import Step, facts, plan, steps
from benchmarks.accuracy.rows import Row, append_row, calm, key, read_rows
from benchmarks.accuracy.table import report
from benchmarks.accuracy.tasks import SETS
from onebox.errors import OneboxError
from onebox.files import write_atomic
from onebox.training import let_waiting_threads_sleep


def run_step(step: Step, tools: Tools) -> Row:
    """Trains and judges once; gives the row."""
    method = METHODS[step.method]
    job = Job(step.train(), step.task.test, step.minutes, step.seed, step.task.imgsz)
    answers = method.run(job, tools, step.name)
    return {
        **step.key(),
        "set": step.task.set_name,
        "train": len(job.train),
        "test": job.test.fingerprint(),
        "seconds": round(answers.seconds, 1),
        "seconds_all": round(answers.seconds_all, 1),
        **answers.details,
        **score(job, answers),
    }


def main() -> None:
    """The command."""
    args = _arguments()
    path = args.out / "rows.jsonl"
    try:
        if args.plan:
            print(plan(args.only, args.seeds))
            return
        if args.facts:
            print(facts(args.only, args.out))
            return
        rows = read_rows(path)
        failed = [] if args.table else _run(args, rows, path)
        text = report(rows)
        if rows:
            write_atomic(args.out / "table.md", text + "\n")
        print(text)
    except OneboxError as error:
        raise SystemExit(f"benchmarks.accuracy: {error}") from None
    if failed:
        raise SystemExit("\n".join(["benchmarks.accuracy: these runs failed and have no row:", *failed]))


def _run(args: argparse.Namespace, rows: list[Row], path: Path) -> list[str]:
    """Does what has no row yet; gives a line for each run that failed."""
    let_waiting_threads_sleep()  # as onebox trains, for every method: docs/log.md, 2026-11-22
    tools = Tools(ultralytics=args.ultralytics, keep=args.out / "runs" if args.keep else None)
    done, failed = {key(row) for row in rows}, []
    todo = [
        step
        for name in args.only
        for step in steps(name, args.method, args.seeds, args.minutes, args.few, args.out)
        if tuple(step.key().values()) not in done
    ]
    for number, step in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {time.strftime('%H:%M')} {step.name}, {step.minutes:g} min", flush=True)
        try:
            row = calm(lambda step=step: run_step(step, tools), args.calm)
        except OneboxError as error:
            failed.append(f"{step.name}: {error}")
            print(failed[-1], flush=True)
            continue
        rows.append(row)
        append_row(path, row)
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description="See docs/benchmark.md.", allow_abbrev=False
    )
    parser.add_argument("--only", choices=SETS, action="append", metavar="SET", help=f"sets: {', '.join(SETS)}")
    parser.add_argument(
        "--method", choices=METHODS, action="append", metavar="METHOD", help=f"methods: {', '.join(METHODS)}"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--minutes", type=float, help="for every run, in place of the set's own")
    parser.add_argument("--few", type=_counts, default=[], metavar="10,50", help="boxed pictures a class")
    parser.add_argument("--ultralytics", type=Path, metavar="PYTHON", help="of an environment with ultralytics")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument(
        "--calm", type=float, metavar="CORES", help="do a run again, twice at most, while the host kept back more"
    )
    parser.add_argument("--keep", action="store_true", help="keep onebox's run folders, in OUT/runs")
    parser.add_argument("--table", action="store_true", help="print what the rows say and run nothing")
    parser.add_argument("--plan", action="store_true", help="print how long everything takes and run nothing")
    parser.add_argument("--facts", action="store_true", help="print what the sets hold, copies included; run nothing")
    args = parser.parse_args()
    args.only = args.only or list(SETS)
    chosen: list[str] = args.method or []
    args.method = [n for n, m in METHODS.items() if n in chosen or not (chosen or m.optional)]
    _check(parser, args, chosen)
    return args


def _check(parser: argparse.ArgumentParser, args: Any, chosen: list[str]) -> None:
    """Ends the program where something cannot be; leaves out what needs Ultralytics where nobody asked for it."""
    if args.seeds < 1:
        parser.error("--seeds must be at least 1")
    if args.minutes is not None and not 0.01 <= args.minutes <= 1000:
        parser.error("--minutes must be from 0.01 to 1000")
    if args.table or args.plan or args.facts:
        return
    need = [name for name in chosen if METHODS[name].needs_ultralytics]
    if need and args.ultralytics is None:
        parser.error(f"{', '.join(need)} needs --ultralytics PYTHON (docs/benchmark.md)")
    if args.ultralytics is not None and not args.ultralytics.is_file():
        parser.error(f"--ultralytics {args.ultralytics}: no such file")
    if args.ultralytics is None:
        out = [name for name in args.method if METHODS[name].needs_ultralytics]
        args.method = [name for name in args.method if name not in out]
        if out:
            print(f"Without --ultralytics PYTHON (docs/benchmark.md): {', '.join(out)} left out.", flush=True)


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if any(count < 1 for count in counts):
        raise ValueError
    return counts


if __name__ == "__main__":
    main()
