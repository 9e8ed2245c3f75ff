"""What a model file says about itself. Takes and gives JSON text; knows nothing of where it is stored (ONNX metadata,
safetensors header) nor of how the model runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from onebox.errors import ModelError

SCHEMA = 1
#: The key of the manifest in ONNX `metadata_props` and in the safetensors header.
METADATA_KEY = "onebox.manifest"
#: The exported graph's input and outputs, matched by name.
INPUT_NAME = "pictures"
OUTPUT_NAMES = ("logits", "boxes_01", "sigmas_01")
#: An output that a graph may have besides: (B,), how surely there is an object, before calibration.
PRESENCE_OUTPUT = "presence_logits"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model's facts.

    `class_names` in the order of the logits; `imgsz` the side of the square input; `baseline` what "always the
    median box" says (`label`, `box_01`), learnt from the training set; `data` the training set's fingerprint and
    counts, and the fingerprint of all that was `given`, before some was held out; `refine` whether every picture is
    looked at twice (`onebox.refine`); `export_check` the largest differences between torch and ONNX Runtime
    (`pictures`, `box_gap_px`, `probability_gap`), empty before export; `calibration` what `onebox.calibration` keeps:
    `Calibration.to_dict()`, and under `presence` what `Presence.to_dict()` gives; empty until there is one, either part
    may be missing.
    """

    class_names: tuple[str, ...]
    imgsz: int
    backbone: str
    recipe: str
    box_head: str
    onebox_version: str
    baseline: dict[str, Any]
    data: dict[str, Any]
    refine: bool = False
    export_check: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """One line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Manifest:
        """Reads `to_json` back. Raises ModelError, naming `where`, for damaged or newer manifests."""
        try:
            raw = json.loads(text)
            schema = raw["schema"]
        except (ValueError, KeyError, TypeError):
            raise ModelError("the manifest inside is damaged", where=where, fix="Export the model again.") from None
        if not isinstance(schema, int) or schema > SCHEMA:
            raise ModelError(
                f"made by a newer onebox (manifest schema {schema}, this one reads up to {SCHEMA})",
                where=where,
                fix="Update onebox.",
            )
        try:
            known = {f.name for f in fields(cls)}
            kept = {key: value for key, value in raw.items() if key in known}
            kept["class_names"] = tuple(str(name) for name in kept["class_names"])
            kept["imgsz"] = int(kept["imgsz"])
            kept["refine"] = bool(kept.get("refine", False))
            manifest = cls(**kept)
        except (KeyError, TypeError, ValueError):
            raise ModelError("the manifest inside is damaged", where=where, fix="Export the model again.") from None
        if not manifest.class_names or manifest.imgsz < 1 or not isinstance(manifest.calibration, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ModelError("the manifest inside is damaged", where=where, fix="Export the model again.")
        return manifest
