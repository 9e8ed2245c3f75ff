"""docs/checking.md says what the doctor says."""

from __future__ import annotations

from onebox.doctor.findings import CODES, codes_table
from onebox.images import MAX_PIXELS
from tests.conftest import ROOT


def test_the_table_of_codes_is_the_doctor_s() -> None:
    page = (ROOT / "docs/checking.md").read_text("utf-8")
    assert codes_table() in page, "docs/checking.md is behind CODES: put the output of codes_table() there"
    assert page.count("\n| `") == len(CODES), "no other table of codes"


def test_the_figures_in_the_text_are_those_of_the_code() -> None:
    from onebox.doctor import page, pictures

    text = (ROOT / "docs/checking.md").read_text("utf-8")
    assert f"{MAX_PIXELS:,} pixels" in text
    assert pictures._LARGE == 2**24
    assert "above 16 million pixels" in text
    assert page._MOST_DRAWN == 12
    assert "most twelve findings" in text
    assert pictures.FEW_SHARE == 0.1
    assert "at most a tenth" in text
