"""`TrainConfig`: the one home of every training default. The command line's flags and help, the table in the docs and
the saved `config.json` are made from it. Touches no files; imports no torch but where a weights file is to name its
trunk.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from onebox.errors import ConfigError

RECIPES = ("default", "plain")
BOX_HEADS = ("edges", "fc")
BOX_LOSSES = ("edges", "l1_giou", "mse")
PLAIN_TRUNK = "plain"
TRACKERS = ("tensorboard", "mlflow", "wandb")
#: How much a probe's scores, about 0 to 1, weigh beside the network's logits: of 4, 8, 12 and 16 the one that made
#: held-out pictures of four sets likeliest (docs/log.md, 2026-11-28).
PROBE_WEIGHT = 4.0
#: Fewer pictures that teach than these are few: seen larger, with a head start for the heads, and all are learnt in the
#: end (docs/log.md, 2026-11-30 and 2026-12-01).
FEW_PICTURES = 1500
#: The side of the input where nobody says: with a pretrained trunk, the same with few pictures, and from nothing.
IMGSZ, FEW_IMGSZ, SCRATCH_IMGSZ = 192, 224, 96


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Every setting of a training run, frozen. `None` means "decided from the data, and written down in config.json".

    Raises ConfigError on impossible values.
    """

    recipe: str = _option("default", "default, or plain: two pooled FC heads, NLL + MSE, no tricks (the reference)")
    backbone: str = _option(
        "tf_mobilenetv3_small_100",
        "trunk: any timm name, or plain (built-in convolutions, no weights)  [default with --weights none: "
        "plain; with a file named after a timm network: that]",
    )
    weights: str = _option("pretrained", "pretrained (timm downloads them), a .safetensors file, or none")
    imgsz: int | None = _option(
        None,
        f"side of the square the pictures are stretched to, pixels  [default: {IMGSZ}; {FEW_IMGSZ} where fewer than "
        f"{FEW_PICTURES:,} pictures teach, {SCRATCH_IMGSZ} with --weights none]",
    )
    epochs: int | None = _option(None, "passes over the training pictures  [default: from the number of pictures]")
    minutes: float | None = _option(None, "stop on time, with the best model so far")
    seed: int = _option(0, "every random choice is a function of (seed, step)")
    batch: int = _option(32, "pictures per step, over all processes together")
    lr: float = _option(1e-3, "peak learning rate of the heads")
    trunk_lr: float | None = _option(
        None, "the trunk's share of lr  [default: 0.25 to 1, more where a pretrained trunk knows less; 1 from scratch]"
    )
    freeze: int = _option(8, "a pretrained trunk's layers up to this stride are held as they are; 0 holds none")
    head_start: int | None = _option(
        None,
        "passes that the heads make over what a pretrained trunk says as it is, before all of it learns  [default: 3 "
        f"where fewer than {FEW_PICTURES:,} pictures teach, fewer than 6,000 are seen or --minutes is below 1.5; 0 "
        "otherwise and from scratch]",
    )
    weight_decay: float = _option(0.05, "AdamW's; kept off biases and normalisation")
    warmup: float = _option(0.15, "share of the run in which the learning rate rises")
    label_smoothing: float = _option(0.1, "of the class targets, 0 to below 1")
    ema: float = _option(0.99, "decay per step of the averaged weights; 0 turns averaging off")
    augment: float | None = _option(
        None, "strength of crops, zoom and colour, 0 (none) to 1  [default: 0.5 pretrained, 1 from scratch]"
    )
    close: float = _option(0.3, "share of the pictures seen as close-ups of the object")
    hflip: float = _option(0.5, "chance of a left-right flip; 0 where left and right mean something")
    box_head: str = _option("edges", "edges (four 1-D distributions) or fc (pooled, fully connected)")
    box_loss: str = _option("edges", "edges (L1 + GIoU + soft targets), l1_giou, or mse")
    bins: int = _option(64, "positions per edge distribution")
    box_weight: float | None = _option(
        None, "weight of the box loss  [default: measured gradient norms of the first epoch]"
    )
    balance: float | None = _option(
        None,
        "wanted gradient of the box branch over the class branch at the trunk  [default: 1 pretrained, 0.8 from "
        "scratch]",
    )
    probe: bool = _option(
        True,
        "the pretrained trunk, untouched, is asked about the class, too, where held-out pictures gain by it: surer "
        "classes, more time per picture",
    )
    refine: bool | None = _option(
        None,
        "the finished model looks at every picture twice: tighter boxes, twice the time  [default: where the boxes of "
        "held-out pictures gain by it; with a pretrained trunk also where they are too few to tell]",
    )
    learn_all_from: float | None = _option(
        None,
        "share of the run after which the pictures that onebox held out teach, too; they judge and calibrate the model "
        f"as it is then; 1: never  [default: 0.7; 1 where {FEW_PICTURES:,} or more pictures teach and with --val, "
        "--split or --recipe plain]",
    )
    patience: float = _option(
        0.35,
        "stop after this share of the run without a better validation score; 0 never stops, and nothing does before "
        "held-out pictures teach, too",
    )
    negatives: str | None = _option(
        None, "folder of pictures without any of the objects  [default: DATA/negatives, where there is one]"
    )
    false_reject: float = _option(0.05, "share of pictures with an object that may be refused as holding none")
    threads: int | None = _option(None, "CPU threads for torch  [default: all cores]")
    tracker: str | None = _option(
        None, "also log every epoch to tensorboard, mlflow or wandb, if installed  [default: none]"
    )

    def __post_init__(self) -> None:
        for f, hint in zip(fields(self), get_type_hints(TrainConfig).values(), strict=True):
            self._is_a(f.name, hint)
        self._one_of("recipe", RECIPES)
        self._one_of("box_head", BOX_HEADS)
        self._one_of("box_loss", BOX_LOSSES)
        if self.tracker is not None:
            self._one_of("tracker", TRACKERS)
        if self.box_loss == "edges" and self.box_head != "edges":
            raise ConfigError(
                f"box_loss edges needs box_head edges, not {self.box_head}", fix="Use --box-loss l1_giou."
            )
        self._within("batch", 1, 65536)
        self._within("freeze", 0, 64)
        self._within("bins", 8, 1024)
        self._within("lr", 1e-8, 10)
        self._within("weight_decay", 0, 10)
        self._within("warmup", 0, 0.9)
        self._within("label_smoothing", 0, 0.99)
        self._within("ema", 0, 0.99999)
        self._within("close", 0, 1)
        self._within("hflip", 0, 1)
        self._within("patience", 0, 1)
        self._within("false_reject", 0.0001, 0.5)
        self._within("seed", 0, 2**63 - 1)
        for name, low, high in (
            ("imgsz", 32, 2048),
            ("epochs", 1, 100_000),
            ("augment", 0, 1),
            ("minutes", 0.01, 100_000),
            ("trunk_lr", 0, 100),
            ("balance", 1e-6, 1e6),
            ("head_start", 0, 1000),
            ("learn_all_from", 0.3, 1),
            ("box_weight", 0, 1e9),
            ("threads", 1, 4096),
        ):
            if getattr(self, name) is not None:
                self._within(name, low, high)

    def _is_a(self, name: str, hint: Any) -> None:
        value, kinds = getattr(self, name), get_args(hint) or (hint,)
        wide = (*kinds, int) if float in kinds else kinds  # a whole number is a fine float
        if not isinstance(value, wide) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            raise ConfigError(f"{name} is {value!r}; it must be {wanted}")

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ConfigError(f"{name} is {value!r}; it can be {', '.join(allowed)}{_nearest(str(value), allowed)}")

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not low <= value <= high:
            raise ConfigError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")

    @property
    def from_nothing(self) -> bool:
        """Does the trunk begin with random weights? The built-in one always does."""
        return _begins_with_nothing(self.weights, self.backbone)

    @property
    def side(self) -> int:
        """`imgsz`, once it is decided."""
        assert self.imgsz is not None
        return self.imgsz

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the order of the fields."""
        return dataclasses.asdict(self)


#: What `--recipe plain` means, as differences from the defaults: the textbook, exact. Pooled features, two FC heads,
#: NLL + MSE added up with weight 1, Adam at one constant rate, nothing else.
PLAIN: dict[str, Any] = {
    "recipe": "plain",
    "imgsz": IMGSZ,
    "box_head": "fc",
    "box_loss": "mse",
    "box_weight": 1.0,
    "balance": 0.3,
    "lr": 1e-3,
    "trunk_lr": 1.0,
    "freeze": 0,
    "head_start": 0,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "label_smoothing": 0.0,
    "ema": 0.0,
    "augment": 0.0,
    "close": 0.0,
    "probe": False,
    "refine": False,
    "learn_all_from": 1.0,
}


#: What `weights="none"`, or the built-in trunk, means besides, as differences from the defaults. In the same time the
#: built-in stack of dense convolutions learns more from nothing than a trunk made to be pretrained, and more from many
#: small pictures than from few large ones (docs/log.md, 2026-11-28).
FROM_NOTHING: dict[str, Any] = {"backbone": PLAIN_TRUNK, "imgsz": SCRATCH_IMGSZ}


def make_config(**settings: Any) -> TrainConfig:
    """The defaults of the chosen recipe, and of training from nothing where that is asked for, with `settings` laid
    over them. Without a backbone, weights in a file that is named after a timm network (`resnet18.safetensors`) are
    that network's.

    Raises ConfigError for an unknown key (naming the nearest valid one) or an impossible value.
    """
    names = [f.name for f in fields(TrainConfig)]
    for key in settings:
        if key not in names:
            raise ConfigError(f"unknown setting {key!r}{_nearest(key, names)}")
    recipe = PLAIN if settings.get("recipe") == "plain" else {}
    nothing = FROM_NOTHING if _begins_with_nothing(settings.get("weights"), settings.get("backbone")) else {}
    named = {} if "backbone" in settings else _named_after(settings.get("weights"))
    return TrainConfig(**{**recipe, **nothing, **named, **settings})


def _begins_with_nothing(weights: Any, backbone: Any) -> bool:
    return weights == "none" or backbone == PLAIN_TRUNK


def _named_after(weights: Any) -> dict[str, Any]:
    if not isinstance(weights, str) or not weights.endswith(".safetensors"):
        return {}
    try:
        import timm
    except ModuleNotFoundError:  # labelling goes on without it; training says what is missing
        return {}
    name = Path(weights).name.removesuffix(".safetensors").partition(".")[0]  # "resnet18.a1_in1k": the tag says whose
    return {"backbone": name} if timm.is_model(name) else {}


def _nearest(word: str, words: Any) -> str:
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def settings_table() -> str:
    """Markdown: every setting, its default, what `--recipe plain` changes it to, and what it means."""
    lines = ["| flag | default | plain | |", "|---|---|---|---|"]
    for f in fields(TrainConfig):
        plain = PLAIN.get(f.name, "")
        text = str(f.metadata["help"]).replace("|", "\\|")
        default = "" if f.default is None else f.default
        lines.append(f"| `--{f.name.replace('_', '-')}` | {default} | {plain} | {text} |")
    return "\n".join(lines)
