"""What a model may promise about its answers: probabilities that mean what they say, boxes and class sets with a stated
coverage, and whether there is an object at all. Takes arrays of answers and truths; numpy only. Fitted once, kept in
the manifest, and read by the runtime. Never decides which pictures it is fitted on.
"""

from onebox.calibration.conformal import Scores, checked_coverage
from onebox.calibration.curves import LEVELS, Group, RiskCoverage, conditional_coverage, coverage_curve, risk_coverage
from onebox.calibration.fitted import FEWEST, PROMISES, Calibration, Judged, fit_calibration
from onebox.calibration.presence import (
    FEATURES,
    Presence,
    auroc,
    false_accept_at,
    fit_presence,
    presence_features,
)
from onebox.calibration.temperature import Reliability, ece, fit_temperature, reliability, tempered

__all__ = [
    "FEATURES",
    "FEWEST",
    "LEVELS",
    "PROMISES",
    "Calibration",
    "Group",
    "Judged",
    "Presence",
    "Reliability",
    "RiskCoverage",
    "Scores",
    "auroc",
    "checked_coverage",
    "conditional_coverage",
    "coverage_curve",
    "ece",
    "false_accept_at",
    "fit_calibration",
    "fit_presence",
    "fit_temperature",
    "presence_features",
    "reliability",
    "risk_coverage",
    "tempered",
]
