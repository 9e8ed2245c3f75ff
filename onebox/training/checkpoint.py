"""What a run can be continued or exported from: safetensors files, their small facts as JSON in the header. Takes and
fills a `Session`; no pickle anywhere.

`last.safetensors` holds network, average, optimizer state and the weights that are `Kept`, and all of `Progress`;
`best.safetensors` holds the best weights alone, with the manifest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onebox.errors import ModelError, RunFolderError
from onebox.files import atomic_path
from onebox.manifest import METADATA_KEY, Manifest
from onebox.training.balance import BoxWeight
from onebox.training.session import Progress, Session

_PROGRESS_KEY = "onebox.progress"

Weights = dict[str, Tensor]


@dataclass(slots=True)
class Kept:
    """The weights a run ends with: the `best` so far; and, once the held-out pictures teach, too, those that they
    judged before (`asked`), which calibration and figures are of."""

    best: Weights
    asked: Weights | None = None


def copy_weights(module: torch.nn.Module) -> Weights:
    """A detached copy of the module's state, plain memory layout."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def save_state(path: Path, session: Session, kept: Kept) -> None:
    """Writes everything a resume needs, atomically. Raises RunFolderError."""
    network = session.accelerator.unwrap_model(session.network)
    tensors = {f"network.{k}": v for k, v in copy_weights(network).items()}
    if session.average is not network:
        tensors |= {f"average.{k}": v for k, v in copy_weights(session.average).items()}
    tensors |= {f"best.{k}": v for k, v in kept.best.items()}
    tensors |= {f"asked.{k}": v for k, v in (kept.asked or {}).items()}
    for i, state in session.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
    progress = asdict(session.progress) | {"seconds": session.elapsed_here()}
    _save(path, tensors, {_PROGRESS_KEY: json.dumps(progress)})


def load_state(path: Path, session: Session) -> Kept:
    """Puts a saved state back into `session`; gives the weights that were kept. Raises RunFolderError."""
    tensors, metadata = _read(path)
    network = session.accelerator.unwrap_model(session.network)
    try:
        network.load_state_dict(_under(tensors, "network."))
        if session.average is not network:
            session.average.load_state_dict(_under(tensors, "average."))
        kept = Kept(_under(tensors, "best."), _under(tensors, "asked.") or None)
        _fill_optimizer(session.optimizer, _under(tensors, "optimizer."))
        raw: dict[str, Any] = json.loads(metadata[_PROGRESS_KEY])
        raw["box_weight"] = BoxWeight(**raw["box_weight"])
        session.progress = Progress(**raw)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"this checkpoint does not belong to this run ({str(error).splitlines()[0][:120]})",
            where=str(path),
            fix="Start again with --overwrite.",
        ) from error
    return kept


def save_best(path: Path, best: Weights, manifest: Manifest) -> None:
    """Writes the best weights with their manifest, atomically. Raises RunFolderError."""
    _save(path, best, {METADATA_KEY: manifest.to_json()})


def load_best(path: Path) -> tuple[Weights, Manifest]:
    """Reads `save_best` back. Raises RunFolderError and ModelError."""
    tensors, metadata = _read(path)
    if METADATA_KEY not in metadata:
        raise ModelError("these weights carry no onebox manifest", where=str(path))
    return tensors, Manifest.from_json(metadata[METADATA_KEY], where=str(path))


def _save(path: Path, tensors: Weights, metadata: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # safetensors wraps the operating system's error in its own
            raise _as_os_error(error) from error


def _as_os_error(error: Exception) -> OSError:
    import errno
    import re

    code = re.search(r"os error (\d+)", str(error))
    return OSError(int(code.group(1)) if code else errno.EIO, str(error))


def _read(path: Path) -> tuple[Weights, dict[str, str]]:
    if not path.is_file():
        raise RunFolderError("no such checkpoint", where=str(path), fix="Has this run saved anything yet?")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RunFolderError(f"a damaged checkpoint ({error})", where=str(path), fix="Use --overwrite.") from error


def _under(tensors: Weights, prefix: str) -> Weights:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _fill_optimizer(optimizer: Any, saved: Weights) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        i, name = key.split(".", 1)
        # moments lie in memory as their parameter does (channels last), or the fused update would be slower
        like = torch.empty_like(params[int(i)]) if value.shape == params[int(i)].shape else torch.empty_like(value)
        state.setdefault(int(i), {})[name] = like.copy_(value)
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
