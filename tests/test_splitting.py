"""Splits: partitions, whole groups, stratified classes, the same again; and which names say that pictures belong
together."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import ConfigError
from onebox.splitting import assign, merge_groups, name_groups, pattern_groups, read_fractions, source_name
from tests.small_sets import table

SHARES = st.sampled_from([(0.8, 0.2), (0.5, 0.5), (0.8, 0.1, 0.1), (0.6, 0.3, 0.1), (0.25, 0.25, 0.25, 0.25)])
#: (class or None, group or None) per picture.
PICTURES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.none() | st.integers(0, 12)), min_size=1, max_size=80
)


def names_of(count: int) -> list[str]:
    return [f"pics/{i}.jpg" for i in range(count)]


@given(PICTURES, SHARES, st.integers(0, 5))
def test_every_picture_has_one_part_and_groups_are_whole(
    pictures: list[tuple[str | None, int | None]], shares: tuple[float, ...], seed: int
) -> None:
    labels, groups = [p[0] for p in pictures], [p[1] for p in pictures]
    parts = assign(labels, names_of(len(pictures)), shares, seed=seed, groups=groups)
    assert len(parts) == len(pictures)
    assert set(parts) <= set(range(len(shares)))
    assert {label for label, part in zip(labels, parts, strict=True) if part == 0} >= set(labels) - {None}
    for group in set(groups) - {None}:
        assert len({part for part, g in zip(parts, groups, strict=True) if g == group}) == 1


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 7)), min_size=1, max_size=25), SHARES, st.integers(0, 5)
)
def test_classes_are_stratified_to_within_one_group(
    groups: list[tuple[str, int]], shares: tuple[float, ...], seed: int
) -> None:
    """Groups of one class each, as (class, size): no part gets as much as one group more than its share."""
    labels = [label for label, size in groups for _ in range(size)]
    group_of = [i for i, (_, size) in enumerate(groups) for _ in range(size)]
    parts = assign(labels, names_of(len(labels)), shares, seed=seed, groups=group_of)
    for label in set(labels):
        sizes = [size for own, size in groups if own == label]
        got = Counter(part for part, own in zip(parts, labels, strict=True) if own == label)
        for part, share in enumerate(shares):
            # one for rounding and one for "at least one in every part"
            assert got[part] < share * sum(sizes) + max(sizes) + 2
        assert len(got) == min(len(sizes), len(shares))
        assert got[0] > 0


@given(PICTURES, SHARES, st.integers(0, 3), st.randoms())
def test_the_order_of_the_pictures_does_not_matter(
    pictures: list[tuple[str | None, int | None]], shares: tuple[float, ...], seed: int, random: object
) -> None:
    names = names_of(len(pictures))
    order = list(range(len(pictures)))
    random.shuffle(order)  # type: ignore[attr-defined]
    parts = assign([p[0] for p in pictures], names, shares, seed=seed, groups=[p[1] for p in pictures])
    labels, groups = [pictures[i][0] for i in order], [pictures[i][1] for i in order]
    shuffled = assign(labels, [names[i] for i in order], shares, seed=seed, groups=groups)
    assert [parts[i] for i in order] == shuffled


@given(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=60), st.floats(0.05, 0.95), st.integers(0, 3))
def test_without_groups_the_lowest_hashes_of_each_class_are_held_out(
    labels: list[str | None], share: float, seed: int
) -> None:
    """The rule of version 0.1: data without siblings are split as they always were."""
    names = names_of(len(labels))
    held_out: set[int] = set()
    for label in {own for own in labels if own}:
        members = sorted(
            (hashlib.sha256(f"{seed}\0{name}".encode()).digest(), i)
            for i, (name, own) in enumerate(zip(names, labels, strict=True))
            if own == label
        )
        n = len(members)
        held_out.update(i for _, i in members[: min(max(round(n * (1 - share)), 1), n - 1)])
    parts = assign(labels, names, (share, 1 - share), seed=seed, groups=[None] * len(labels))
    assert {i for i, part in enumerate(parts) if part == 1} == held_out


def test_large_groups_are_spread_as_the_shares_say() -> None:
    """100 pictures of one class in 20 groups of 5: 80, 10 and 10 of them, that is 16, 2 and 2 groups."""
    parts = assign(["x"] * 100, names_of(100), (0.8, 0.1, 0.1), seed=0, groups=[i // 5 for i in range(100)])
    assert Counter(parts) == {0: 80, 1: 10, 2: 10}


def test_pictures_without_a_label_follow_their_group() -> None:
    labels = ["x", "x", "x", "x", None, None]
    parts = assign(labels, names_of(6), (0.5, 0.5), seed=0, groups=["p", "p", "q", "q", "q", None])
    assert parts[4] == parts[2] != parts[0]
    assert parts[5] == 0


def test_a_group_of_several_classes_counts_for_each() -> None:
    """Ten of each class; one group holds five of both: the part that gets it has half of both classes already."""
    labels = ["a", "b"] * 10
    groups = ["both"] * 10 + [None] * 10
    parts = assign(labels, names_of(20), (0.5, 0.5), seed=1, groups=groups)
    assert Counter(zip(parts, labels, strict=True)) == {(0, "a"): 5, (0, "b"): 5, (1, "a"): 5, (1, "b"): 5}


@pytest.mark.parametrize(
    ("name", "source", "sure"),
    [
        ("A0_jpg.rf.292a080422ba984985192f413101af41.jpg", "A0", "A0"),
        ("A0_png.rf.292a080422ba984985192f413101af41.jpg", "A0", "A0"),
        ("dog.rf.292a080422ba984985192f413101af41.jpg", "dog", "dog"),
        ("Cars225_aug2.jpg", "Cars225", "Cars225"),
        ("leaf-augmented-12.png", "leaf", "leaf"),
        ("leaf_aug1_aug2.png", "leaf", "leaf"),
        ("tree copy.jpg", "tree", "tree copy"),
        ("tree copy 2.jpg", "tree", "tree copy 2"),
        ("tree - Copy (3).jpg", "tree", "tree - Copy (3)"),
        ("tree (1).jpg", "tree", "tree (1)"),
        ("tree(12).jpg", "tree", "tree(12)"),
        ("raccoon-11.jpg", "raccoon-11", "raccoon-11"),
        ("000123.JPEG", "000123", "000123"),
        ("august.png", "august", "august"),
        ("photocopy.png", "photocopy", "photocopy"),
        ("x.rf.short.jpg", "x.rf.short", "x.rf.short"),
        ("(1).jpg", "(1)", "(1)"),
        ("noextension", "noextension", "noextension"),
    ],
)
def test_source_names(name: str, source: str, sure: str) -> None:
    assert source_name(name) == source
    assert source_name(name, sure=True) == sure


def test_name_groups_join_siblings_and_their_source_only() -> None:
    paths = ["t/a.jpg", "t/a_aug1.jpg", "v/a_aug2.jpg", "t/b.jpg", "c (1).jpg"]
    assert name_groups(paths) == ["a", "a", "a", None, "c"]
    assert name_groups(paths, sure=True) == ["a", "a", "a", None, None]
    # the same plain name in two folders: two pictures, each with siblings of its own
    folders = ["cat/1.jpg", "cat/1_aug1.jpg", "dog/1.jpg", "dog/1_aug1.jpg"]
    assert name_groups(folders) == ["cat/1", "cat/1", "dog/1", "dog/1"]


def test_pattern_groups() -> None:
    paths = ["s1/f1.jpg", "s1/f2.jpg", "s2/f1.jpg", "other.jpg"]
    assert pattern_groups(paths, r"^(s\d)/") == ["s1", "s1", "s2", None]
    assert pattern_groups(paths, r"s\d") == ["s1", "s1", "s2", None]
    with pytest.raises(ConfigError, match="not a regular expression"):
        pattern_groups(paths, "(")
    with pytest.raises(ConfigError, match="fits no picture's path"):
        pattern_groups(paths, "zebra")


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=30))
def test_merged_groups_are_the_connected_ones(count: int, pairs: list[tuple[int, int]]) -> None:
    links = [(a % count, b % count) for a, b in pairs]
    kinds = [[0 if i in link else None for i in range(count)] for link in links]
    merged = merge_groups(count, *kinds)
    reached = [{i} for i in range(count)]
    for _ in range(count):
        for a, b in links:
            union = reached[a] | reached[b]
            for i in union:
                reached[i] = union
    assert merged == [min(members) for members in reached]


def test_fractions() -> None:
    assert read_fractions(0.75) == (0.75, 0.25)
    assert read_fractions([0.8, 0.1, 0.1]) == (0.8, 0.1, 0.1)
    for wrong in (0.0, 1.0, float("nan"), [0.5], [0.8, 0.3], [1.2, -0.2], []):
        with pytest.raises(ConfigError):
            read_fractions(wrong)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 20))
def test_a_data_set_keeps_augmented_siblings_together(seed: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        rows = [f"{kind}{i}_aug{k}.jpg,{kind},1,2,30,40" for kind in ("cat", "dog") for i in range(5) for k in range(2)]
        table(Path(folder), rows)
        data = load_dataset(folder)
        first, second, third = data.split((0.6, 0.2, 0.2), seed)
        assert first.counts() == {"cat": 6, "dog": 6}
        assert second.counts() == third.counts() == {"cat": 2, "dog": 2}
        sources = [{source_name(Path(s.path).name) for s in part} for part in (first, second, third)]
        assert sum(map(len, sources)) == len(set().union(*sources)) == 10
        with pytest.raises(ConfigError, match="groups for 20 samples"):
            data.split(0.5, groups=[1, 2])


@pytest.mark.real
def test_siblings_of_one_photo_never_part(real_data: Path) -> None:
    data = load_dataset(real_data / "asl_yolo").part("train")
    train, val = data.split(0.8)
    photos = [{source_name(Path(s.path).name) for s in part} for part in (train, val)]
    assert len(photos[0]) + len(photos[1]) == 504
    assert not photos[0] & photos[1]
    for label, n in data.counts().items():
        assert abs(val.counts()[label] - 0.2 * n) < 3
