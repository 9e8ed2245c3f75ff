"""The doctor's page: every finding is on it or counted, boxes are drawn in the right colours and places, nothing a user
wrote is markup, nothing outside the data set is opened, and no data set makes it large."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebox.doctor import check
from onebox.doctor.clusters import clustered
from onebox.doctor.findings import CODES, Checkup, Corners, Finding, in_order
from onebox.doctor.page import OTHER, OWN, render_check_page, write_check_page
from onebox.errors import RunFolderError
from tests.html_page import PAYLOADS, Page
from tests.small_sets import picture, table

GREY = (90, 90, 90)


def checkup(*findings: Finding, boxes: dict[str, tuple[tuple[str, Corners], ...]] | None = None) -> Checkup:
    return Checkup("csv", 1200, 1100, {"ant": 600, "bee": 500}, in_order(findings), boxes or {})


def shown(page: Page) -> list[Image.Image]:
    sources = [attrs["src"] or "" for attrs in page.all("img")]
    return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def edge(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Where the pixels about this colour lie: (first column, first row, last column, last row)."""
    near = np.abs(np.asarray(image, dtype=int) - colour).max(axis=2) < 60
    if not near.any():
        return None
    rows, columns = np.nonzero(near)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_what_is_on_the_page(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "set" / "a" / "one.jpg"))
    found = checkup(
        Finding(
            "bad-box", path, str(tmp_path / "set" / "labels.csv"), 12, "nonsense", 0.834, "The picture is left out."
        ),
        Finding("tiny-class", None, None, None, "class 'ant' has 1 picture"),
        Finding("one-class", None, "labels.csv", None, "one only"),
        boxes={path: (("ant", (10.0, 10.0, 60.0, 50.0)),)},
    )
    write_check_page(tmp_path / "check.html", found, root=str(tmp_path / "set"))
    page = Page((tmp_path / "check.html").read_text(encoding="utf-8"))
    for words in (
        "1,100 usable pictures", "of 1,200 met", "1 error", "1 warning", "1 note", "2 classes", "ant 600", "bee 500",
        "Read as CSV or TSV table", "nonsense", "labels.csv:12", "83% sure", "a/one.jpg", "class 'ant' has 1 picture",
        "--fix The picture is left out.", CODES["bad-box"].meaning, CODES["tiny-class"].meaning,
        "Nothing in the data set was changed",
    ):  # fmt: skip
        assert words in page.text, words
    assert str(tmp_path) not in page.text.replace(str(tmp_path / "set"), "", 1), "paths are shown from the root on"
    assert "100% sure" not in page.text
    assert len(page.all("img")) == 1
    bars = [attrs["width"] for attrs in page.all("rect") if attrs.get("class") == "value"]
    assert bars == ["100.0", "83.33"]


def test_the_folder_one_is_in_and_a_single_file_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "birds", ["a.jpg,cat,10,10,60,50"])
    monkeypatch.chdir(tmp_path / "birds")
    here = Page(render_check_page(check("."), root="."))
    file = Page(render_check_page(check(str(tmp_path / "birds" / "a.csv")), root=str(tmp_path / "birds" / "a.csv")))
    assert "birds: what the doctor found" in here.text
    assert "a.csv: what the doctor found" in file.text
    assert f"{tmp_path}" not in file.text.replace(str(tmp_path / "birds"), "", 1)


def test_nothing_found(tmp_path: Path) -> None:
    page = Page(render_check_page(checkup()))
    assert "Nothing. Every picture was decoded" in page.text
    assert "Findings" not in page.text
    empty = Page(render_check_page(Checkup("csv", 0, 0, {}, ())))
    assert "No picture has a label." in empty.text


def test_the_box_is_drawn_where_it_is(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "a.jpg", 480, 240))
    finding = Finding("outlier-box", path, None, None, "far")
    page = Page(render_check_page(checkup(finding, boxes={path: (("", (120.0, 60.0, 360.0, 180.0)),)})))
    (image,) = shown(page)
    assert image.size == (240, 120), "half the size"
    place = edge(image, OWN)
    assert place is not None
    assert np.abs(np.array(place) - (60, 30, 180, 90)).max() <= 2
    assert edge(image, OTHER) is None


def test_of_a_pair_both_boxes_are_drawn_in_two_colours(tmp_path: Path) -> None:
    one, two = str(picture(tmp_path / "one.jpg", 480, 240)), str(picture(tmp_path / "two.jpg", 240, 120))
    third = str(picture(tmp_path / "three.jpg"))
    boxes = {one: (("", (120.0, 60.0, 360.0, 180.0)),), two: (("", (20.0, 30.0, 90.0, 90.0)),), third: ()}
    finding = Finding(
        "several-objects", one, None, None, "twice", 1.0, "", (one, two, third), (40.0, 60.0, 180.0, 180.0)
    )
    page = Page(render_check_page(checkup(finding, boxes=boxes)))
    first, second = shown(page)
    own, other = edge(first, OWN), edge(first, OTHER)
    assert own is not None
    assert other is not None
    assert np.abs(np.array(own) - (60, 30, 180, 90)).max() <= 2
    assert abs(other[0] - 20) <= 2
    assert edge(second, OWN) is None
    place = edge(second, OTHER)
    assert place is not None
    assert np.abs(np.array(place) - (20, 30, 90, 90)).max() <= 2
    assert "and 1 more copy" in page.text
    assert "the other picture’s box" in page.text


@pytest.mark.parametrize(
    "corners",
    [
        (float("nan"), 1.0, 2.0, 3.0),
        (float("inf"), 1.0, 2.0, 3.0),
        (-1e300, -1e300, 1e300, 1e300),
        (90.0, 70.0, 10.0, 10.0),
        (500.0, 500.0, 600.0, 600.0),
        (5.0, 5.0, 5.0, 5.0),
    ],
)
def test_boxes_that_are_wrong_can_be_drawn(corners: Corners, tmp_path: Path) -> None:
    path = str(picture(tmp_path / "a.jpg"))
    many = tuple(("ant", corners) for _ in range(50))
    for objects in (many[:1], many):
        finding = Finding("bad-box", path, None, None, "wrong", other_box=corners)
        assert len(shown(Page(render_check_page(checkup(finding, boxes={path: objects}))))) == 1


def test_pictures_that_cannot_be_shown_say_why(tmp_path: Path) -> None:
    gone, cut = str(tmp_path / "gone.jpg"), tmp_path / "cut.jpg"
    cut.write_bytes(picture(tmp_path / "whole.jpg").read_bytes()[:300])
    findings = [Finding("unreadable-picture", path, None, None, "no") for path in (gone, str(cut))]
    page = Page(render_check_page(checkup(*findings, boxes={gone: (), str(cut): ()})))
    assert page.all("img") == []
    assert page.text.count("cannot be shown") == 2
    assert "no such file" in page.text


OPENED = """
import sys
from pathlib import Path
from onebox.doctor.findings import Checkup, Finding
from onebox.doctor.page import render_check_page
outside, inside = sys.argv[1:]
findings = [Finding("refused-name", outside, "a.csv", 1, "no", others=(outside,)),
            Finding("outlier-box", inside, "a.csv", 2, "far", others=(outside,), other_box=(1.0, 1.0, 5.0, 5.0))]
checkup = Checkup("csv", 1, 1, {"a": 1}, tuple(findings), {inside: ()})
render_check_page(checkup)
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
render_check_page(checkup)
assert inside in opened, opened
assert outside not in opened
"""


def test_a_name_out_of_an_annotation_is_never_opened(tmp_path: Path) -> None:
    outside, inside = picture(tmp_path / "outside.jpg"), picture(tmp_path / "set" / "inside.jpg")
    subprocess.run([sys.executable, "-c", OPENED, str(outside), str(inside)], check=True)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_users_wrote_is_text(payload: str, tmp_path: Path) -> None:
    real = str(picture(tmp_path / "a.jpg"))
    findings = [
        Finding(code, path, payload, 3, payload, 0.5, payload, (payload,))
        for code in ("bad-box", "one-class")
        for path in (payload, real, None)
    ]
    boxes: dict[str, tuple[tuple[str, Corners], ...]] = {payload: (), real: ((payload, (1.0, 1.0, 30.0, 30.0)),)}
    found = Checkup(payload, 1, 1, {payload: 3}, in_order(findings), boxes)
    page = Page(render_check_page(found, root=f"/data/{payload}"))
    assert not {"script", "i", "b", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    assert {tag for tag, _ in page.elements if tag == "svg"} <= {"svg"}
    assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on")]
    for tag, attrs in page.elements:
        for name in {"src", "href", "action", "srcset", "style"} & set(attrs):
            assert (attrs[name] or "").startswith(("#", "data:image/jpeg;base64,")), (tag, name)
    assert not re.search("[\u0000\u202e]", page.text), "nothing unseen, nothing that turns the direction of writing"
    if payload.isprintable():
        assert payload in " ".join(page.words), "shown as it was written"


def test_nothing_is_loaded_and_links_lead_somewhere(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "a.jpg"))
    findings = [Finding(code, path, "a.csv", 1, "x") for code in CODES]
    text = render_check_page(checkup(*findings, boxes={path: ()}), root="set")
    page = Page(text)
    assert "Content-Security-Policy" in text
    assert "default-src 'none'" in text
    assert "script" not in {tag for tag, _ in page.elements}
    bare = re.sub(r"base64,[^\"]*", "", text)
    assert "url(" not in bare
    assert "@import" not in bare
    assert "//" not in bare
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {(attrs["href"] or "")[1:] for attrs in page.all("a")} == set(CODES) <= set(ids)


@pytest.mark.parametrize("n_codes", [8, len(CODES)])
def test_any_data_set_stays_below_five_megabytes(n_codes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths: list[str] = []
    for i in range(40):  # noise: the largest thumbnails there are
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (240, 240, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    objects = (("'" * 3000, (1.0, 1.0, 9.0, 9.0)),) * 2
    long = "'<" * 3000
    findings = [
        Finding(code, paths[i % 40] if i % 2 else None, long, i, f"{i}{long}", 0.5, long, (paths[(i + 1) % 40],))
        for code in list(CODES)[:n_codes]
        for i in range(80)
    ]
    found = Checkup(
        "csv", 10, 10, {f"{i}{long}": i for i in range(5000)}, tuple(findings), dict.fromkeys(paths, objects)
    )
    text = render_check_page(found, root=long)
    assert len(text.encode()) < 5_000_000
    page = Page(text)
    if n_codes == 8:
        assert len(page.all("img")) >= 2 * 2 * n_codes, "every code has its share"
    assert "and 4,940 more." in page.text


def test_every_finding_is_on_the_page_or_counted(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "a.jpg"))
    findings = [Finding("outlier-box", path, "a.csv", i, f"message{i:05}") for i in range(3000)]
    page = Page(render_check_page(checkup(*findings, boxes={path: ()})))
    told = set(re.findall(r"message\d{5}", page.text))
    match = re.search(r"([\d,]+) are not on this page", page.text)
    assert match is not None
    assert len(told) + int(match[1].replace(",", "")) == 3000
    assert len(page.all("img")) == 12


def test_the_surest_are_drawn(tmp_path: Path) -> None:
    paths = [str(picture(tmp_path / f"{i:02}.jpg")) for i in range(30)]
    findings = [Finding("outlier-box", path, None, None, "x", i / 30) for i, path in enumerate(paths)]
    page = Page(render_check_page(checkup(*findings, boxes=dict.fromkeys(paths, ())), root=str(tmp_path)))
    assert [attrs["alt"] for attrs in page.all("img")] == [f"{i}.jpg" for i in range(29, 17, -1)]


def test_odd_bytes_in_names_and_a_page_already_there(tmp_path: Path) -> None:
    found = checkup(Finding("bad-box", "\udcff.jpg", None, None, "x"))
    for _ in range(2):
        write_check_page(tmp_path / "check.html", found, root="\udcfe")
    assert "?.jpg" in (tmp_path / "check.html").read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["check.html"]
    with pytest.raises(RunFolderError, match=r"check\.html"):
        write_check_page(tmp_path / "none" / "check.html", found)


def test_from_a_folder_to_the_page(tmp_path: Path) -> None:
    table(tmp_path / "set", ["a.jpg,cat,10,10,60,50", "b.jpg,cat,90,50,110,79", "../up.jpg,cat,1,1,9,9"])
    found = check(tmp_path / "set")
    write_check_page(tmp_path / "check.html", found, root=str(tmp_path / "set"))
    page = Page((tmp_path / "check.html").read_text(encoding="utf-8"))
    assert "refused-name" in page.text
    assert "a.csv:4" in page.text
    assert page.all("img")


@pytest.mark.real
def test_a_real_set_s_page_is_small_and_quick_to_read(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "plates_voc"
    found = check(root)
    write_check_page(tmp_path / "check.html", found, root=str(root))
    page = Page((tmp_path / "check.html").read_text(encoding="utf-8"))
    assert (tmp_path / "check.html").stat().st_size < 5_000_000
    assert f"wrong-size {found.counts()['wrong-size']}" in page.text
    assert "images/Cars1.jpg" in page.text


def test_findings_about_one_cluster_of_copies_share_a_card(tmp_path: Path) -> None:
    """Six pairs of four identical pictures, one pair of two others, and one finding about no pair."""
    paths = [str(picture(tmp_path / f"{i}.jpg", 480, 240)) for i in range(7)]
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)] + [(4, 5)]
    findings = [
        Finding("duplicate-boxes", paths[a], "a.csv", 9 * a + b, f"pair{a}{b}", others=(paths[b],),
                other_box=(40.0, 60.0, 180.0, 180.0))
        for a, b in pairs
    ]  # fmt: skip
    findings.append(Finding("duplicate-boxes", paths[6], "a.csv", 99, "alone"))
    assert [len(some) for some in clustered(findings)] == [6, 1, 1]
    boxes: dict[str, tuple[tuple[str, Corners], ...]] = dict.fromkeys(paths, (("", (120.0, 60.0, 360.0, 180.0)),))
    page = Page(render_check_page(checkup(*findings, boxes=boxes), root=str(tmp_path)))
    assert [attrs["alt"] for attrs in page.all("img")] == [
        "0.jpg", "the other picture: 1.jpg", "the other picture: 2.jpg", "the other picture: 3.jpg",
        "4.jpg", "the other picture: 5.jpg", "6.jpg",
    ]  # fmt: skip
    assert "8 in 3 clusters of copies" in page.text
    assert "and 4 more pairs of these, below as text" in page.text
    for a, b in pairs:
        assert page.text.count(f"pair{a}{b}") == 1
    first = shown(page)[0]
    assert edge(first, OWN) is not None
    assert edge(first, OTHER) is not None


def test_clusters_that_a_later_finding_links_become_one() -> None:
    def pair(a: str, b: str) -> Finding:
        return Finding("near-duplicate", b, None, None, "x", others=(a,))

    linked = clustered(
        [pair("a", "b"), pair("c", "d"), Finding("near-duplicate", "e", None, None, "x"), pair("b", "c")]
    )
    assert [[f.picture for f in some] for some in linked] == [["b", "d", "c"], ["e"]]
    assert clustered([]) == []


def test_the_terminal_names_the_picture_where_the_annotation_s_name_does_not(tmp_path: Path) -> None:
    from tests.small_runs import here

    for name in ("Cars0.jpg", "Cars0.png", "Cars1.jpg"):
        picture(tmp_path / "set" / name, 80 if name != "Cars1.jpg" else 70, 60)
    for stem, extension in (("Cars0", "png"), ("Cars1", "jpg")):
        (tmp_path / "set" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}.{extension}</filename><size><width>9</width><height>9</height></size>"
            "<object><name>car</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
            "</annotation>"
        )
    lines = [line for line in here("check", tmp_path / "set").out.splitlines() if "the annotation says" in line]
    assert any("Cars0.png: the annotation says" in line for line in lines), lines
    assert any("Cars1.xml" in line and "Cars1.jpg:" not in line for line in lines), lines
