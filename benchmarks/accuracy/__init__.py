"""How accurate onebox is beside other ways to train in the same time, on real pictures: sets x methods x seeds, one row
each, resumable. `python -m benchmarks.accuracy` runs it; docs/benchmark.md says what is measured and how.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Where the real sets (`data/`) and the pretrained trunks (`weights/`) lie: beside the checkout.
SHARED = Path(os.environ.get("ONEBOX_SHARED", Path(__file__).resolve().parents[3] / "shared"))
#: The trunk of every method that has a choice: onebox's default.
TRUNK = "tf_mobilenetv3_small_100"
WEIGHTS = SHARED / "weights" / f"{TRUNK}.safetensors"
#: A larger trunk, twice the time a picture in training, for the method of that name.
LARGER = SHARED / "weights" / "mobilenetv2_100.safetensors"
