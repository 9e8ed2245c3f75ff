"""One self-contained HTML page about one training or evaluation: scores beside the baseline, curves, the worst and best
pictures, the data and how it was made. Takes facts already computed; gives a file; never trains, judges or calls out.

Needs matplotlib (the [report] extra, part of [train]), imported only when a page is written.
"""

from __future__ import annotations

from onebox.report.facts import DataFacts, RunFacts
from onebox.report.page import render_report, write_report

__all__ = ["DataFacts", "RunFacts", "render_report", "write_report"]
