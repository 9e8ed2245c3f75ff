"""`onebox export`: model.onnx again, from a run's best weights."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from onebox.cli.predict import expand
from onebox.errors import MissingExtraError, RunFolderError
from onebox.images import ImageSource


def run_export(run: Path, *, out: Path | None = None, pictures: Path | None = None) -> None:
    """Builds the network from RUN/config.json and RUN/best.safetensors, exports and proves it. Raises OneboxError."""
    try:
        from onebox.training.checkpoint import load_best
        from onebox.training.config import make_config
        from onebox.training.export import export_onnx
        from onebox.training.model import build_network
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"exporting needs {error.name}, which is not installed", fix='Run: pip install "onebox[train]"'
        ) from None
    best, manifest = load_best(run / "best.safetensors")
    try:
        config = make_config(**json.loads((run / "config.json").read_text("utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RunFolderError("missing or damaged", where=str(run / "config.json")) from None
    network = build_network(config, len(manifest.class_names), load_weights=False)
    network.load_state_dict(best)
    target = out or run / "model.onnx"
    check = export_onnx(network, manifest, target, _proof_pictures(pictures)).export_check
    typer.echo(
        f"{target}: {check['pictures']} pictures through torch and ONNX Runtime differ by at most "
        f"{check['box_gap_px']:.2g} px and {check['probability_gap']:.2g} in probability"
    )


def _proof_pictures(folder: Path | None) -> list[ImageSource]:
    if folder is not None:
        return list(expand([folder]))
    from onebox.demo_data import CLASS_NAMES, draw_scene

    return [draw_scene(0, i, CLASS_NAMES[i % len(CLASS_NAMES)])[0] for i in range(12)]
