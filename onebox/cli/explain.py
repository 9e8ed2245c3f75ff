"""`onebox explain`: one picture, where the two heads looked in it; as a drawn sheet, as text, as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress

from onebox.errors import ConfigError
from onebox.explanation import BAND, Explanation, Look, explain
from onebox.files import atomic_path, write_atomic
from onebox.runtime import load

#: What Pillow calls the kinds of files that can be asked for.
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def run_explain(model_path: Path, picture: Path, *, out: Path | None = None, json_to: str | None = None) -> None:
    """Explains one picture and writes what was asked for. Raises OneboxError."""
    target = out or Path(f"{picture.stem}-explained.png")
    kind = _KINDS.get(target.suffix.lower())
    if kind is None:
        raise ConfigError(f"cannot write a picture as {target.suffix or 'a file without extension'}", fix="Use .png.")
    if target.exists() and picture.exists() and target.samefile(picture):
        raise ConfigError("--out would replace the picture itself", where=str(target), fix="Give another file.")
    model = load(model_path)
    errors = Console(stderr=True, highlight=False, emoji=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("hiding one part after the other", total=None)
        found = explain(model, picture, progress=lambda done, total: progress.update(task, completed=done, total=total))
    with atomic_path(target) as temporary:
        found.plot().save(temporary, kind)
    if json_to == "-":
        typer.echo(json.dumps(found.to_dict(maps=True), ensure_ascii=False))
    else:
        typer.echo(_told(found))
        if json_to is not None:
            write_atomic(Path(json_to), json.dumps(found.to_dict(maps=True), ensure_ascii=False) + "\n")
    typer.echo(f"Picture: {target}", err=True)


def _told(found: Explanation) -> str:
    answer = found.prediction
    box = ", ".join(f"{v:.0f}" for v in answer.box.xyxy)
    lines = [f"{answer.named} at ({box})", ""]
    lines.append(f"{'':8}{'strongest':>16}{'in the box':>14}{'by chance':>12}{'near it':>10}{'by chance':>12}")
    lines += [_line(look) for look in found.looks]
    lines += [
        "",
        "strongest: the largest change that hiding one spot made. in the box, near it: share of what mattered; near an",
        f"edge: within {BAND:.0%} of the box's width or height. by chance: the share of the picture that this is.",
    ]
    return "\n".join(lines)


def _line(look: Look) -> str:
    if look.centre is None:
        return f"{look.name:8}  nothing that was hidden changed it"
    strongest = f"{look.strength:.2f} log-odds" if look.near is None else f"{look.strength:.1f} px"
    line = f"{look.name:8}{strongest:>16}{look.inside:>14.0%}{look.inside_by_chance:>12.0%}"
    if look.near is not None and look.near_by_chance is not None:
        line += f"{look.near:>10.0%}{look.near_by_chance:>12.0%}"
    return line
