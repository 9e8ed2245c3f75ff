"""Pictures in, answers out, off the event loop: a bounded queue, and worker threads that each take what is waiting as
one small batch, decode it, run it and describe it. Takes bytes or arrays; keeps nothing once an answer is given.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from onebox.errors import OneboxError, PictureError
from onebox.images import ImageSource
from onebox.predictions import Prediction
from onebox.runtime import Localizer
from onebox.web.problems import Problem

#: Pictures of one batch at most. A batch is never waited for: it is what has queued up meanwhile, and it saves about a
#: quarter of the time of single pictures on a small network (measured, docs/log.md, 2026-11-22).
MOST_IN_BATCH = 8
#: How long a place in the queue is kept for a request of which only the head has come: long enough for a body that is
#: sent at once, too short for slow senders, or for those without a token, to fill the queue with.
COMING_SECONDS = 0.05

Describe: TypeAlias = Callable[[Prediction], Any]
Answer: TypeAlias = "Any | OneboxError"


@dataclass(slots=True)
class _Job:
    picture: ImageSource
    describe: Describe
    future: asyncio.Future[Answer | BaseException]
    loop: asyncio.AbstractEventLoop


class Engine:
    """`workers` threads on one model. `waiting` pictures may queue before requests are refused; a request that was let
    in is taken whole. `watch(pictures)` is told the size of every batch."""

    def __init__(
        self,
        model: Localizer,
        *,
        workers: int,
        waiting: int,
        max_pixels: int,
        watch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model = model
        self._most_waiting = waiting
        self._max_pixels = max_pixels
        self._watch = watch
        self._jobs: deque[_Job] = deque()
        self._coming: deque[float] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"onebox-{i}", daemon=True) for i in range(max(1, workers))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Answers what is queued, then ends the threads."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return len(self._jobs)

    def expect(self) -> bool:
        """Whether there is room for a request whose head has come; if so its place is kept for COMING_SECONDS. Without
        places a burst would pass while one picture has room, and all of it be read before it is refused."""
        now = time.monotonic()
        while self._coming and self._coming[0] < now - COMING_SECONDS:
            self._coming.popleft()
        if len(self._jobs) + len(self._coming) >= self._most_waiting:
            return False
        self._coming.append(now)
        return True

    @property
    def alive(self) -> bool:
        """Whether pictures sent now will be answered."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    async def answer(self, pictures: Sequence[ImageSource], describe: Describe) -> list[Answer]:
        """What `describe` makes of each prediction, in order, or the error of that picture. Raises Problem 503 where
        the queue is full."""
        if self._coming:
            self._coming.popleft()
        if len(self._jobs) >= self._most_waiting or self._closed:
            raise busy()
        loop = asyncio.get_running_loop()
        jobs = [_Job(picture, describe, loop.create_future(), loop) for picture in pictures]
        with self._ready:
            self._jobs.extend(jobs)
            self._ready.notify(len(jobs))
        answers = await asyncio.gather(*(job.future for job in jobs))
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, OneboxError):
                raise answer
        return answers

    def _work(self) -> None:
        while batch := self._take():
            wanted = [job for job in batch if not job.future.cancelled()]
            if not wanted:
                continue
            self._watch(len(wanted))
            answers = self._answers(wanted)
            loop = wanted[0].loop
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, wanted, answers)

    def _take(self) -> list[_Job]:
        """A fair share of what is waiting, so that no worker rests while another has a heap; [] at the end."""
        with self._ready:
            while not self._jobs and not self._closed:
                self._ready.wait()
            share = min(MOST_IN_BATCH, -(-len(self._jobs) // len(self._threads)))
            return [self._jobs.popleft() for _ in range(share)]

    def _answers(self, jobs: list[_Job]) -> list[Answer | BaseException]:
        try:
            predictions = self.model.answer([job.picture for job in jobs], max_pixels=self._max_pixels)
        except Exception as error:  # a worker outlives whatever a batch does; its requests are told
            return [error] * len(jobs)
        answers: list[Answer | BaseException] = []
        for job, prediction in zip(jobs, predictions, strict=True):
            try:
                answers.append(prediction if isinstance(prediction, PictureError) else job.describe(prediction))
            except Exception as error:
                answers.append(error)
        return answers


def busy() -> Problem:
    """What a request is told that comes to a full queue."""
    return Problem(503, "too many pictures are waiting already", "Try again in a second.", {"Retry-After": "1"})


def spoken(error: OneboxError) -> dict[str, str]:
    """One picture's error as a client may read it: without the place, and without objects of Python."""
    what = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "the file", error.what)
    return {"what": what, "fix": error.fix or "Send it as JPEG, PNG or WebP."}


def _deliver(jobs: list[_Job], answers: list[Answer | BaseException]) -> None:
    for job, answer in zip(jobs, answers, strict=True):
        if job.future.done():  # the client has gone meanwhile
            continue
        # as a result, also where it is an exception: the request looks at all of them before it raises one
        job.future.set_result(answer)
