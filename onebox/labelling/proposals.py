"""What a model proposes for the pictures of a folder. Takes a `Localizer` and paths; gives label, box and confidence
one picture at a time, and from all of them the order in which to label. Writes nothing; a picture that cannot be read
is told with its reason and proposed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from onebox.errors import PictureError
from onebox.images import load_pixels
from onebox.labelling.queue import ASK_FROM, LOOK, Floats, features, most_useful_first, uncertainty
from onebox.predictions import Prediction
from onebox.runtime import Localizer

#: Pixels; a narrower box is none that a person could take.
SMALLEST = 2.0
#: Pictures looked at between two chances to stop.
_CHUNK = 32


#: Of one picture: probabilities (C,), box (4,) and edge sigmas (4,) as fractions of its sides, coarse look (D,).
_Row: TypeAlias = tuple[Floats, Floats, Floats, Floats]


@dataclass(frozen=True, slots=True)
class Proposal:
    """`label` with its probability `score`; `box` (x_min, y_min, x_max, y_max) in pixels of the upright picture, which
    measures `size` (width, height)."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    size: tuple[int, int]

    @property
    def usable(self) -> bool:
        """Whether there is a box to speak of: a model that has learnt little may say a line, or a point."""
        x_min, y_min, x_max, y_max = self.box
        return min(x_max - x_min, y_max - y_min) >= SMALLEST


@dataclass(slots=True)
class Survey:
    """What one model says of many pictures, in the order they were given; `failed` names those it could not see."""

    paths: list[str] = field(default_factory=list[str])
    proposals: list[Proposal] = field(default_factory=list[Proposal])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    _rows: list[_Row] = field(default_factory=list[_Row])

    def add(self, path: str, answer: Prediction, look: Floats) -> Proposal:
        """Keeps one answer; `look` is the picture at LOOK x LOOK pixels."""
        size = answer.box.image_size
        assert size is not None  # a model's box always knows its picture
        proposal = Proposal(answer.label, answer.score, answer.box.xyxy, (size.width, size.height))
        scale = np.array([size.width, size.height] * 2, dtype=np.float64)
        row = (
            answer.probabilities,
            np.array(answer.box.xyxy) / scale,
            np.array(answer.edge_sigmas) / scale,
        )
        self.paths.append(path)
        self.proposals.append(proposal)
        self._rows.append((*row, look.ravel()))
        return proposal

    def order(self, labelled: Sequence[bool]) -> list[str]:
        """The paths not yet `labelled` (one truth value per path), the most useful first (queue.py); in the order that
        they were given while fewer than ASK_FROM are labelled."""
        if sum(labelled) < ASK_FROM:
            return [path for path, known in zip(self.paths, labelled, strict=True) if not known]
        probabilities, boxes, sigmas, looks = (np.stack(column) for column in zip(*self._rows, strict=True))
        points = features(looks, probabilities, boxes)
        unsure = uncertainty(probabilities, boxes, sigmas)
        return [self.paths[i] for i in most_useful_first(unsure, points, np.asarray(labelled, dtype=bool))]


def survey(
    model: Localizer,
    paths: Sequence[str],
    *,
    told: Callable[[str, Proposal | str], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Survey:
    """Asks the model about every path, in order, at constant memory for pixels. `told` gets each path with its proposal
    or the reason why there is none, as soon as it is known; `stopped` is asked now and then whether to leave off."""
    found = Survey()
    with ThreadPoolExecutor(2) as threads:
        for chunk in _chunks(paths):
            if stopped():
                break
            looks = threads.map(_look, chunk)
            for path, answer, look in zip(chunk, model.stream(chunk), looks, strict=True):
                if isinstance(answer, PictureError) or look is None:
                    found.failed[path] = answer.what if isinstance(answer, PictureError) else "cannot be read"
                    said: Proposal | str = found.failed[path]
                else:
                    said = found.add(path, answer, look)
                if told is not None:
                    told(path, said)
    return found


def _look(path: str) -> Floats | None:
    try:
        return load_pixels(path, LOOK)[0].astype(np.float64)
    except PictureError:
        return None


def _chunks(paths: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), _CHUNK):
        yield list(paths[start : start + _CHUNK])
