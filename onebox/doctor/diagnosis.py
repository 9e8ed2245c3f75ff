"""One look at a data set, for the report and for the repair. Takes a folder, an annotation file or a loaded `Dataset`;
gives a `Diagnosis`: what was loaded, what the files say, what the pictures are, and the findings from all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onebox.dataset import Dataset, Multiple, load_dataset
from onebox.doctor.annotations import of_annotations
from onebox.doctor.boxes import of_boxes
from onebox.doctor.classes import of_classes
from onebox.doctor.entries import Source, read_sources, source_of_dataset
from onebox.doctor.findings import Checkup, Corners, Finding, finding_at, in_order
from onebox.doctor.likeness import of_likeness
from onebox.doctor.naming import of_files
from onebox.doctor.pictures import PictureFacts, Progress, examine, of_pictures


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`dataset` as loaded; `sources`, every layout found, the one that was loaded first; `facts` of every picture that
    is used or spoken of, by path; `checkup`, the findings from these."""

    dataset: Dataset
    sources: tuple[Source, ...]
    facts: Mapping[str, PictureFacts]
    checkup: Checkup


def diagnose(
    data: str | os.PathLike[str] | Dataset,
    *,
    multiple: Multiple = "largest",
    layout: str | None = None,
    boxes: str | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Reads everything once. Arguments and exceptions as in `onebox.doctor.check`."""
    if isinstance(data, Dataset):
        dataset, sources = data, [source_of_dataset(data)]
    else:
        dataset = load_dataset(data, multiple=multiple, layout=layout, boxes=boxes)
        sources = read_sources(os.fspath(data), first=dataset.layout, boxes=boxes)
    facts = {fact.path: fact for fact in examine(_pictures_of(dataset, sources), progress)}
    return Diagnosis(dataset, tuple(sources), facts, _checkup(dataset, sources, facts))


def _checkup(dataset: Dataset, sources: Sequence[Source], facts: Mapping[str, PictureFacts]) -> Checkup:
    findings = [
        *of_annotations(sources, facts),
        *of_files(facts),
        *of_boxes(sources, facts),
        *of_classes(dataset.counts(), sources[0]),
        *of_pictures(facts, sources[0]),
        *of_likeness(dataset, facts),
        *_unlabelled(dataset, sources),
    ]
    findings.extend(_of_load(dataset, findings))
    bad = {fact.path for fact in facts.values() if fact.problem is not None}
    left_out = {entry.path for entry in dataset.skipped}.difference(s.path for s in dataset)
    return Checkup(
        layout=dataset.layout,
        pictures=len(dataset) + len(left_out),
        usable=sum(s.label is not None and s.path not in bad for s in dataset),
        classes=dataset.counts(),
        findings=in_order(findings),
        boxes=_boxes_of(sources[0], facts),
    )


def _pictures_of(dataset: Dataset, sources: Iterable[Source]) -> list[str]:
    """Every picture that is used or spoken of, sorted."""
    spoken_of = {entry.path for source in sources for entry in source.entries if entry.path is not None}
    return sorted(spoken_of.union(s.path for s in dataset))


def _boxes_of(source: Source, facts: Mapping[str, PictureFacts]) -> dict[str, tuple[tuple[str, Corners], ...]]:
    """What the page draws: every picture that was looked at, with the objects that the chosen layout gives it."""
    boxes: dict[str, tuple[tuple[str, Corners], ...]] = dict.fromkeys(facts, ())
    for entry in source.entries:
        fact = facts.get(entry.path or "")
        if fact is not None and fact.upright is not None:
            boxes[fact.path] += tuple((thing.label, entry.pixels(thing, fact.upright)) for thing in entry.things)
    return boxes


def _unlabelled(dataset: Dataset, sources: Sequence[Source]) -> Iterator[Finding]:
    others = {entry.path: source.layout for source in reversed(sources[1:]) for entry in source.labelled()}
    says_none = {sample.path for sample in dataset.without_object}
    for sample in dataset:
        if sample.path in says_none and sample.path not in others:
            yield finding_at("no-object", sample.path, sample.where, "an annotation without an object")
        elif sample.label is None:
            message = "an annotation without an object" if sample.where else "a picture without an annotation"
            if sample.path in others:
                message += f"; the {others[sample.path]} annotations have one"
            yield finding_at("unlabelled", sample.path, sample.where, message)


def _of_load(dataset: Dataset, known: Sequence[Finding]) -> Iterator[Finding]:
    """What was left out or changed in loading, where no other finding tells it already."""
    errors = [finding for finding in known if finding.level == "error"]
    told = {finding.picture for finding in errors} | {finding.place for finding in errors}
    kinds = {(finding.code, finding.picture) for finding in known}
    for entry in dataset.skipped:
        if entry.path not in told and entry.where not in told:
            yield finding_at(entry.code, entry.path, entry.where, entry.reason)
    for entry in dataset.remarks:
        if (entry.code, entry.path) not in kinds:
            yield finding_at(entry.code, entry.path, entry.where, entry.reason)
