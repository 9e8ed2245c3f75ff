"""The processor while a training runs: threads, denormals and memory. Gives a context that sets them up, and puts
threads and denormals back; decides nothing about the training."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import torch

from onebox.training.config import TrainConfig

#: glibc's names for what mallopt sets (malloc.h), and the values: maps of less than a gigabyte come from the heap, and
#: the heap keeps what is freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP, _FROM_HEAP = 2**31 - 1, 2**30


@contextmanager
def processor_set_up(config: TrainConfig) -> Generator[None, None, None]:
    """For as long as a training runs: its number of threads, and denormals flushed to zero - late in a run many values
    become denormal, which CPUs handle far more slowly. Both belong to the whole process, so they are put back.
    How glibc keeps memory cannot be: it does not tell what was set before."""
    threads = torch.get_num_threads()
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 1) // processes_here))
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
        give_memory_back()


def keep_freed_memory() -> None:
    """Every step asks for the same maps again. Where glibc gives large blocks back to the system in between, each is
    new, and each of its pages an interruption: 4 and 9 % of a step on a virtual machine (docs/log.md, 2026-11-28).
    Nothing happens where the C library is another."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, _KEEP)
        library.mallopt(_MMAP_THRESHOLD, _FROM_HEAP)


def give_memory_back() -> None:
    """What the training has freed goes back to the system, as far as it lies together."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
