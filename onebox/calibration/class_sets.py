"""Sets of classes that hold the true one. Takes probabilities and true classes as arrays; gives nonconformity scores,
and the sets that a bound on the scores stands for. Chooses no bound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats

#: Classes beyond this rank cost extra, each rank this much: the regularisation of Angelopoulos et al. 2021 (arXiv
#: 2009.14193, eq. 4; their k_reg and lambda), which keeps a long tail of small probabilities out of the sets.
FREE_RANKS = 5
PENALTY = 0.01


def rank_scores(log_probabilities: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], Floats]:
    """(N, C) -> the classes of each row, most probable first (equals in class order), and the score of each of them,
    both (N, C): the probability of all classes before it, plus the penalty.

    Adaptive prediction sets (Romano et al. 2020, arXiv 2006.02544) with the regularisation above, without their
    randomisation and not counting the class itself: so the first class scores 0, and no set is ever empty.
    """
    log_p = np.asarray(log_probabilities, dtype=np.float64)
    order = np.argsort(-log_p, axis=1, kind="stable")
    sorted_p = np.exp(np.take_along_axis(log_p, order, axis=1))
    before = np.cumsum(sorted_p, axis=1) - sorted_p
    extra = PENALTY * np.maximum(np.arange(log_p.shape[1]) - FREE_RANKS + 1, 0)
    return order, np.maximum.accumulate(np.maximum(before, 0.0), axis=1) + extra


def class_scores(log_probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """The score of the true class, (N,)."""
    order, scores = rank_scores(log_probabilities)
    place = (order == np.asarray(labels)[:, None]).argmax(axis=1)
    return scores[np.arange(len(scores)), place]


def class_set(log_probabilities: npt.ArrayLike, bound: float) -> tuple[int, ...]:
    """(C,) -> the classes whose score is at most `bound`, most probable first; always the first."""
    order, scores = rank_scores(np.asarray(log_probabilities, dtype=np.float64)[None, :])
    count = max(1, int((scores[0] <= bound).sum()))
    return tuple(int(c) for c in order[0, :count])
