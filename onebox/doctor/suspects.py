"""Which labels and boxes are wrong, by a model that never saw them. Takes a data set and one out-of-fold prediction per
labelled picture; gives how surely each label and each box is wrong, and the findings from it. Trains nothing, opens no
picture, and decides nothing: what is suspected is for a person to look at.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats, iou, to_01
from onebox.calibration import tempered
from onebox.dataset import Dataset
from onebox.doctor.findings import Checkup, Corners, Finding, in_order, split_place
from onebox.types import Sample

if TYPE_CHECKING:  # a prediction knows how to draw itself, which is not needed here
    from onebox.predictions import Prediction

LABEL, BOX = "label-suspect", "box-suspect"
#: From this sureness on a suspicion is a finding.
LISTED = 0.5
#: An edge is known no better than this share of the box's own width (height), whatever the model says of itself: among
#: those tried (1/20 to 3/20) it told moved boxes best over three sets (measured, docs/log.md, 2026-11-22).
_FLOOR = 0.125
#: A box of another size counts this much of a box at another place: models err in size more often than in place.
_SIZE = 2 / 3
#: Two copies whose boxes overlap by this or less contradict each other for sure; from here to 1 less and less.
_CONTRADICTION = 0.75
#: The narrowest box that errors are measured by, as a share of the picture.
_NARROWEST = 0.02
#: So many pictures at least, or there is nothing to call usual.
_FEWEST = 10
#: A model whose boxes overlap less than this with half of the given ones has nothing to say about the others.
_COMPETENT = 0.5
#: Standard deviation of the logarithm of a normal vector's length in the plane, pi / (2 sqrt 6): errors that spread
#: less than that are too few or too alike to tell.
_LEAST_SPREAD = math.pi / (2 * math.sqrt(6))


@dataclass(frozen=True, slots=True)
class Suspect:
    """One labelled picture beside what a model says that never saw it. `label_doubt` and `box_doubt`, 0 to 1: how
    surely the label, the box is wrong; `label_rank` and `box_rank`: 1 is the first to look at, none shared. That is by
    doubt, but of two copies that contradict each other the worse one comes as early as that is sure, however little
    they differ, and the other by the model's doubt alone: who looks at the one has seen both. `overlap`: IoU of the box
    and the model's; `contradicted_by`: copies of the picture whose box or class differs."""

    sample: Sample
    prediction: Prediction
    label_doubt: float
    box_doubt: float
    label_rank: int
    box_rank: int
    overlap: float
    contradicted_by: tuple[str, ...] = ()


def find_suspects(
    data: Dataset,
    predictions: Sequence[Prediction | None],
    findings: Sequence[Finding] = (),
    close_ups: Sequence[Prediction | None] = (),
) -> list[Suspect]:
    """One `Suspect` per labelled picture that has a prediction, in the order of `data.labelled`.

    `predictions`: one per labelled sample, each by a model that was trained without that sample and without its copies.
    `close_ups`, one for each of them: what the same model says when shown the surroundings of the given box alone, a
    second opinion that need not find the object first. The class is that of both, multiplied, and the score of a box
    the geometric mean of both: a model that took another object in the whole picture is often right about a right box
    once it is shown that, and still sees that a wrong one is wrong.
    `findings` of the doctor about copies with different boxes or classes raise the doubt about both: one of the two is
    wrong, and the model's own doubt says which. Where the model finds not even half of the boxes it doubts none of
    them. Raises ValueError for another number of predictions.
    """
    labelled = list(data.labelled)
    known = [(s, p) for s, p in zip(labelled, predictions, strict=True) if p is not None]
    if not known:
        return []
    samples, answers = [s for s, _ in known], [p for _, p in known]
    closer = [p for p in close_ups if p is not None]
    given, said, sigmas = _boxes_of(samples, answers)
    class_names = answers[0].class_names
    labels = np.array([class_names.index(str(s.label)) for s in samples])
    score, overlaps = box_scores(given, said, sigmas), iou(given, said)
    if closer:
        answers = [_of_both(one, other) for one, other in zip(answers, closer, strict=True)]
        score = np.sqrt(score * box_scores(*_boxes_of(samples, closer)))
    label_doubt = label_doubts(np.stack([p.probabilities for p in answers]), labels)
    box_doubt = surprise(score) * (np.median(overlaps) >= _COMPETENT)
    row_of = {sample.path: row for row, sample in enumerate(samples)}
    against: dict[int, list[str]] = {}
    box_odds, label_odds = 1 + score**2, label_doubt / np.clip(1 - label_doubt, 1e-9, None)
    keys: list[Floats] = []
    for code, doubt, odds in (("duplicate-classes", label_doubt, label_odds), ("duplicate-boxes", box_doubt, box_odds)):
        key = doubt.copy()
        for pair in _contradictions(findings, row_of, samples, odds, code):
            for row, other, share in ((pair.first, pair.second, pair.share), (pair.second, pair.first, 1 - pair.share)):
                doubt[row] = 1 - (1 - doubt[row]) * (1 - pair.serious * share)
                against.setdefault(row, []).append(samples[other].path)
            worse = pair.first if pair.share >= 0.5 else pair.second
            key[worse] = 1 - (1 - key[worse]) * (1 - pair.sure)
        keys.append(key)
    own = np.array([p.probabilities[label] for p, label in zip(answers, labels, strict=True)])
    label_rank, box_rank = _ranks(keys[0], -own), _ranks(keys[1], score)
    return [
        Suspect(
            sample=sample,
            prediction=answer,
            label_doubt=float(label_doubt[i]),
            box_doubt=float(box_doubt[i]),
            label_rank=int(label_rank[i]),
            box_rank=int(box_rank[i]),
            overlap=float(overlaps[i]),
            contradicted_by=tuple(dict.fromkeys(against.get(i, []))),
        )
        for i, (sample, answer) in enumerate(zip(samples, answers, strict=True))
    ]


def label_doubts(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """How surely each label is wrong, (N,) in 0-1, from out-of-fold probabilities (N, C) and the given labels (N,).

    A label is taken to be drawn from the probabilities at some temperature, and then with probability e to be replaced
    by any other class, each as likely (symmetric noise, as in Patrini et al. 2017, arXiv 1609.03683). Temperature and e
    are those of the greatest likelihood, and Bayes' rule gives how surely the label was replaced - by the best other
    class in place of all of them, which ranks as confident learning's normalised margin does (Northcutt, Jiang and
    Chuang 2021, JAIR 70, section 3.2) and is less taken in by pictures on which the model is at a loss.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    given = np.asarray(labels, dtype=np.int64)
    count, classes = p.shape
    if classes < 2 or count < _FEWEST:
        return np.zeros(count)
    logits, rows = np.log(np.clip(p, 1e-12, None)), np.arange(count)
    rates = np.geomspace(1 / (count + 1), 0.5, 30)[:, None]
    best, chosen, rate = -math.inf, p, 0.0
    for temperature in np.geomspace(0.1, 5.0, 40):
        tried = tempered(logits, float(temperature))
        own = tried[rows, given]
        fits = np.log((1 - rates) * own + rates * (1 - own) / (classes - 1) + 1e-300).sum(axis=1)
        if fits.max() > best:
            best, chosen, rate = float(fits.max()), tried, float(rates[fits.argmax(), 0])
    own = chosen[rows, given]
    others = chosen.copy()
    others[rows, given] = -1.0
    replaced = np.clip(others.max(axis=1), 1e-12, None) * rate / (classes - 1)
    return replaced / (replaced + own * (1 - rate))


def box_scores(given_01: npt.ArrayLike, said_01: npt.ArrayLike, sigmas_01: npt.ArrayLike) -> Floats:
    """How far each given box lies from what the model says, (N,), 1 being about one standard deviation. All (N, 4) in
    0-1; sigmas may be NaN (a box head without distributions), and then the box's own size alone is the measure.

    Our own. Each edge's sigma is brought to the set's true scale (median absolute error, per edge) and joined with
    _FLOOR of the box's width or height. Along each axis the two edges' errors become one of place (their sum) and one
    of size (their difference), divided by their sigma: a moved box moves both edges together, while a model that
    misjudges an edge misjudges one, so the place tells them apart better than any edge or IoU does. The score is the
    larger of the length of the place's error and _SIZE of that of the size's.
    """
    given, said = np.asarray(given_01, dtype=np.float64), np.asarray(said_01, dtype=np.float64)
    sigmas = np.nan_to_num(np.asarray(sigmas_01, dtype=np.float64), nan=0.0)
    errors = given - said
    usual = np.median(np.abs(errors), axis=0) * 1.4826  # of a normal distribution: its standard deviation
    claimed = np.median(sigmas, axis=0)
    sigmas = sigmas * np.divide(usual, claimed, out=np.zeros(4), where=claimed > 0)
    sides = np.maximum(given[:, 2:] - given[:, :2], said[:, 2:] - said[:, :2]).clip(_NARROWEST)
    known_to = np.hypot(sigmas, _FLOOR * np.hstack([sides, sides]))
    both = np.hypot(known_to[:, :2], known_to[:, 2:])
    place = np.hypot(*((errors[:, :2] + errors[:, 2:]) / both).T)
    size = np.hypot(*((errors[:, 2:] - errors[:, :2]) / both).T)
    return np.maximum(place, _SIZE * size)


def surprise(scores: npt.ArrayLike) -> Floats:
    """How surely each of `scores` (N,), non-negative, is none of the usual ones, (N,) in 0-1.

    One minus the false discovery rate of all scores from this one up (Benjamini and Hochberg 1995), the usual being
    log-normal with the set's own median and median absolute deviation: an empirical null (Efron 2004, JASA 99). It
    never falls where the score rises. 0 for what one in ten of the usual reaches, and for all of fewer than ten.
    """
    values = np.asarray(scores, dtype=np.float64)
    count = len(values)
    if count < _FEWEST:
        return np.zeros(count)
    logs = np.log(np.clip(values, 1e-9, None))
    centre = np.median(logs)
    spread = max(1.4826 * float(np.median(np.abs(logs - centre))), _LEAST_SPREAD)
    tails = np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in (logs - centre) / spread])
    order = np.argsort(-values, kind="stable")
    rates = np.minimum(1.0, count * tails[order] / np.arange(1, count + 1))
    rates = np.minimum.accumulate(rates[::-1])[::-1]
    doubts = np.empty(count)
    doubts[order] = 1 - rates
    return np.where(tails > 0.1, 0.0, doubts)


def with_suspects(checkup: Checkup, data: Dataset, suspects: Sequence[Suspect]) -> Checkup:
    """The checkup with a finding for each label and each box of `data` that is wrong by at least LISTED."""
    name_of = {sample.path: data.relative_path(sample) for sample in data}
    found = [finding for suspect in suspects for finding in _findings(suspect, name_of)]
    return dataclasses.replace(checkup, findings=in_order([*checkup.findings, *found]))


def how_competent(suspects: Sequence[Suspect]) -> str:
    """One sentence: how far the models agree with the labels that they judge."""
    if not suspects:
        return "No picture could be judged."
    agreeing = sum(s.prediction.label == s.sample.label for s in suspects) / len(suspects)
    overlaps = [s.overlap for s in suspects]
    told = (
        f"The models that judge say the given class of {agreeing:.0%} of the pictures; their boxes and the given ones "
        f"overlap with a mean IoU of {sum(overlaps) / len(overlaps):.2f}."
    )
    if len(suspects) < _FEWEST:
        return f"{told} {len(suspects)} pictures are too few to call any of them unusual."
    if np.median(overlaps) < _COMPETENT:
        return f"{told} That is too little to doubt boxes by: let them train longer."
    return told


def _findings(suspect: Suspect, name_of: Mapping[str, str]) -> Iterator[Finding]:
    sample, answer = suspect.sample, suspect.prediction
    copies = ""
    if suspect.contradicted_by:
        more = len(suspect.contradicted_by) - 1
        copies = (
            f"; {name_of[suspect.contradicted_by[0]]}{f' and {more} more' if more else ''}, the same picture, differs"
        )
    if suspect.label_doubt >= LISTED and answer.label != sample.label:
        message = f"labelled {sample.label!r}; a model that never saw it says {answer.label!r} ({answer.score:.0%})"
        yield _finding(LABEL, sample, message + copies, suspect.label_doubt, answer)
    if suspect.box_doubt >= LISTED:
        message = f"the box and that of a model that never saw it overlap with IoU {suspect.overlap:.2f}"
        yield _finding(BOX, sample, message + copies, suspect.box_doubt, answer)


def _finding(code: str, sample: Sample, message: str, doubt: float, answer: Prediction) -> Finding:
    file, line = split_place(sample.where)
    box: Corners = answer.box.xyxy
    return Finding(code, sample.path, file, line, message, round(min(doubt, 0.99), 2), other_box=box)


def _of_both(whole: Prediction, close_up: Prediction) -> Prediction:
    """`whole` with the classes of both looks: the mean of their logits."""
    logits = (whole.raw_log_probabilities() + close_up.raw_log_probabilities()) / 2
    p = tempered(logits[None, :], 1.0)[0]
    best = int(p.argmax())
    return dataclasses.replace(whole, label=whole.class_names[best], score=float(p[best]), probabilities=p)


def _boxes_of(samples: Sequence[Sample], answers: Sequence[Prediction]) -> tuple[Floats, Floats, Floats]:
    """Given and predicted boxes and sigmas, (N, 4) each in 0-1."""
    sizes = np.array([s.image_size for s in samples], dtype=np.float64)
    given = to_01([s.box.xyxy for s in samples if s.box is not None], sizes)
    said = to_01([p.box.xyxy for p in answers], sizes)
    return given, said, to_01([p.edge_sigmas for p in answers], sizes)


class _Contradiction(NamedTuple):
    """Two rows that show the same picture and differ: `sure` that they do, 0 to 1; `serious`, the same less what boxes
    that nearly agree take from it; `share`, 0 to 1, how likely `first` is the wrong one of the two."""

    first: int
    second: int
    sure: float
    serious: float
    share: float


def _contradictions(
    findings: Sequence[Finding], row_of: Mapping[str, int], samples: Sequence[Sample], odds: Floats, code: str
) -> Iterator[_Contradiction]:
    """Every pair found. Exactly one of the two is taken to be wrong; `odds` (N,) say how likely each is to be."""
    for finding in findings:
        if finding.code != code or not finding.others or finding.other_box is None:
            continue
        rows = row_of.get(finding.picture or ""), row_of.get(finding.others[0])
        if rows[0] is None or rows[1] is None:
            continue
        box = samples[rows[0]].box
        serious = finding.confidence
        if code == "duplicate-boxes" and box is not None:
            overlap = float(iou([box.xyxy], [finding.other_box])[0])
            serious *= min(1.0, (1 - overlap) / (1 - _CONTRADICTION))
        first, second = float(odds[rows[0]]), float(odds[rows[1]])
        share = first / (first + second) if first + second > 0 else 0.5
        yield _Contradiction(rows[0], rows[1], finding.confidence, serious, share)


def _ranks(doubts: Floats, scores: Floats) -> npt.NDArray[np.int64]:
    """1 for the most doubtful; of equal doubts the larger score first."""
    order = np.lexsort((-scores, -doubts))
    ranks = np.empty(len(doubts), dtype=np.int64)
    ranks[order] = np.arange(1, len(doubts) + 1)
    return ranks
