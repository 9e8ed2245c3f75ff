"""What a trained model can promise, fitted on the held-out pictures. Takes its manifest and its evaluation; gives both
with the calibration in, and writes nothing. The pictures also chose the best epoch, which was measured to bias
the promises by less than the measurement can see (docs/log.md, 2026-11-22); `onebox calibrate` takes untouched ones.
"""

from __future__ import annotations

from onebox.calibrating import from_evaluation
from onebox.calibration import FEWEST
from onebox.evaluation import Evaluation, recalibrated
from onebox.manifest import Manifest
from onebox.training.reporter import Reporter


def calibrate_run(
    manifest: Manifest, evaluation: Evaluation | None, *, reporter: Reporter
) -> tuple[Manifest, Evaluation | None]:
    """Fits on `evaluation`, the held-out pictures as the model answers them. Without held-out pictures, or with too few
    of them, everything stays as it is, and that is said."""
    count = len(evaluation.records) if evaluation is not None else 0
    if evaluation is None or count < FEWEST:
        reporter.say(
            f"Not calibrated: that takes {FEWEST} held-out pictures, and there {'is' if count == 1 else 'are'} "
            f"{count}. `onebox calibrate` makes up for it."
        )
        return manifest, evaluation
    fitted = from_evaluation(manifest, evaluation, source="validation")
    return fitted.manifest, recalibrated(evaluation, fitted.calibration)
