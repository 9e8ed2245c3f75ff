"""One person's work on one folder: the label store, the model's proposals and order, trainings, and what deserves
another look. Takes what the page asks for; gives plain JSON values. Starts threads and processes only for a model or a
check, and ends them with itself.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onebox.boxes import iou
from onebox.errors import OneboxError
from onebox.labelling.doubts import Checker, Confirmed, disagreements
from onebox.labelling.proposals import Proposal, Survey, survey
from onebox.labelling.queue import ASK_FROM, shuffled
from onebox.labelling.rows import OPEN, Mark
from onebox.labelling.store import Change, Store
from onebox.labelling.training import LEAST, Trainer, missing_extra

#: Everything that is not a label lives here, below the pictures' folder: hidden, so that no reader lists it.
OWN_FOLDER = ".onebox"
#: Labels since the last training after which another one is worth its time.
WORTH_TRAINING = 30
#: A proposal is acceptable with the right class and at least this IoU; of so many recent ones the share is told.
ACCEPTABLE = 0.75
RECENT = 50


@dataclass(slots=True)
class _Model:
    """The model that proposes: its place as shown, how far it has come, what it said."""

    name: str
    run: Path
    done: int = 0
    total: int = 0
    error: str = ""
    #: Whether it has had a say in the order: with few labels it has none.
    ordered: bool = False
    #: Whether each of the last proposals that a person has gone over was acceptable.
    fits: deque[bool] = field(default_factory=lambda: deque[bool](maxlen=RECENT))


class Session:
    """See the module. `flags` go to `onebox train`; `out` is where runs go; `model` a run to propose from the start."""

    def __init__(
        self,
        root: str,
        *,
        classes: Sequence[str] = (),
        model: Path | None = None,
        flags: Sequence[str] = (),
        out: Path | None = None,
    ) -> None:
        own = Path(root, OWN_FOLDER)
        self.store = Store(root, classes)
        self.trainer = Trainer(out or own / "runs", flags, self._use)
        self._confirmed = Confirmed(own / "confirmed.json")
        self._checker = Checker(own / "check.json", self._doubt)
        self._lock = threading.Lock()
        self._ids = {picture_id(path): path for path in self.store.paths}
        self._proposals: dict[str, Proposal] = {}
        self._unreadable: dict[str, str] = {}
        self._doubts = dict(self.store.doubts)
        self._order = [self.store.paths[i] for i in shuffled(self.store.paths)]
        self._model: _Model | None = None
        #: Grows whenever order, proposals or doubts changed: the page then asks for them.
        self._version = 0
        self._generation = 0
        self._labels_at_training = len(self.store.marks())
        start = model or self.trainer.latest()
        if start is not None:
            self._use(start)

    def close(self) -> None:
        """Ends what is at work."""
        self._generation += 1
        self._checker.stop()
        self.trainer.cancel()

    # -- what the page asks --------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything at once: folder, classes, every picture in the order in which to label, and `progress`."""
        with self._lock:
            order = self._ranked()
        return {
            "folder": Path(self.store.root).resolve().name,
            "file": self.store.file.name,
            "classes": list(self.store.classes),
            "notes": self.store.notes,
            "damaged": self.store.damaged,
            "pictures": [self.picture(self.store.get(path)) for path in order],
            **self.progress(self.store.sequence),
        }

    def progress(self, since: int) -> dict[str, Any]:
        """What changed after `since`: pictures, classes, the training, the model. `version` tells when to ask for
        `order` again."""
        model = self._model
        labelled = len(self.store.marks())
        return {
            "sequence": self.store.sequence,
            "version": self._version,
            "classes": list(self.store.classes),
            "changed": [self.picture(change) for change in self.store.all(since)] if since >= 0 else [],
            "training": self.trainer.progress(),
            "can_train": missing_extra() or "",
            "least": LEAST,
            "worth_training": labelled - self._labels_at_training >= WORTH_TRAINING,
            "checking": self._checker.running,
            "check_error": self._checker.error,
            "model": None
            if model is None
            else {
                "name": model.name,
                "done": model.done,
                "total": model.total,
                "error": model.error,
                "ordered": model.ordered,
                "fitting": sum(model.fits),
                "judged": len(model.fits),
            },
        }

    def order(self) -> dict[str, Any]:
        """Ids of all pictures, labelled ones first, then the most useful; and of each picture that has them its
        proposal and its doubt."""
        with self._lock:
            ranked, proposals, doubts = self._ranked(), dict(self._proposals), dict(self._doubts)
            unreadable = dict(self._unreadable)
        return {
            "version": self._version,
            "order": [picture_id(path) for path in ranked],
            "proposals": {picture_id(path): _proposal(one) for path, one in proposals.items()},
            "doubts": {picture_id(path): reason for path, reason in doubts.items() if self._asks(path)},
            "unreadable": {picture_id(path): reason for path, reason in unreadable.items()},
        }

    def picture(self, change: Change) -> dict[str, Any]:
        """One picture as the page knows it: id, name, what is said of it, and the revision that a change refers to."""
        mark = change.mark
        state = "box" if mark.box is not None else "none" if mark.empty else "open"
        row: dict[str, Any] = {
            "id": picture_id(change.picture), "name": change.picture, "state": state, "revision": change.revision,
        }  # fmt: skip
        if mark.box is not None:
            row |= {"label": mark.label, "box": list(mark.box)}
        with self._lock:
            if (proposal := self._proposals.get(change.picture)) is not None:
                row["proposal"] = _proposal(proposal)
            if change.picture in self._doubts and self._asks(change.picture):
                row["doubt"] = self._doubts[change.picture]
            if change.picture in self._unreadable:
                row["unreadable"] = self._unreadable[change.picture]
        return row

    # -- what the page does --------------------------------------------------------------------------------------------

    def path_of(self, ident: str) -> str:
        """The picture's path from the folder. Raises KeyError for an id that is none."""
        return self._ids[ident]

    def put(self, ident: str, mark: Mark, revision: int) -> dict[str, Any]:
        """See `Store.put`. What was doubted is settled by it."""
        path = self.path_of(ident)
        before = self.store.get(path).mark
        change = self.store.put(path, mark, revision)
        with self._lock:
            self._doubts.pop(path, None)
            proposal = self._proposals.get(path)
            if before == OPEN and mark.box is not None and proposal is not None and self._model is not None:
                close = float(iou([mark.box], [proposal.box])[0]) >= ACCEPTABLE
                self._model.fits.append(close and mark.label == proposal.label)
        return self.picture(change)

    def confirm(self, ident: str) -> dict[str, Any]:
        """The person has looked again: it is right as it is."""
        path = self.path_of(ident)
        change = self.store.get(path)
        self._confirmed.add(path, change.mark)
        with self._lock:
            self._doubts.pop(path, None)
        return self.picture(change)

    def add_picture(self, path: str) -> dict[str, Any]:
        """A picture that has just been put into the folder."""
        change = self.store.add_picture(path)
        with self._lock:
            self._ids[picture_id(path)] = path
            if path not in self._order:
                self._order.insert(0, path)
        return self.picture(change)

    def mark_unreadable(self, path: str, reason: str) -> None:
        """A picture that could not be shown."""
        with self._lock:
            self._unreadable[path] = reason

    def train(self) -> None:
        """Begins a training on all labels so far. Raises OneboxError."""
        marks = self.store.marks()
        boxed = sum(mark.box is not None for mark in marks.values())
        self.trainer.start(self.store.file, boxed)
        self._labels_at_training = len(marks)

    def check(self) -> None:
        """Has the doctor go through the labels. Raises OneboxError where there are none, or a check is at work."""
        if not any(mark.box is not None for mark in self.store.marks().values()):
            raise OneboxError("there is no label to check yet")
        model = self._model
        second_opinion = model is not None and (model.run / "config.json").is_file() and missing_extra() is None
        self._checker.start(self.store.file, self.store.root, model.run if model and second_opinion else None)

    # -- the model -----------------------------------------------------------------------------------------------------

    def _use(self, run: Path) -> None:
        """Lets the model of a run propose, in a thread."""
        with self._lock:
            self._generation += 1
            self._model = _Model(_shown(run, self.store.root), run, total=len(self.store.paths))
            self._version += 1
            generation, model = self._generation, self._model
        threading.Thread(target=self._propose, args=(run, model, generation), daemon=True).start()

    def _propose(self, run: Path, model: _Model, generation: int) -> None:
        from onebox.runtime import load

        with self._lock:
            names = {self.store.path(path): path for path in self._ranked(open_first=True)}

        def told(path: str, said: Proposal | str) -> None:
            name = names[path]
            with self._lock:
                model.done += 1
                if isinstance(said, str):
                    self._unreadable[name] = said
                elif said.usable:
                    self._proposals[name] = said
                else:
                    self._proposals.pop(name, None)
                if model.done % 64 == 0:
                    self._version += 1

        try:
            found = survey(load(run), list(names), told=told, stopped=lambda: generation != self._generation)
        except OneboxError as error:
            model.error = error.what
            self._version += 1
            return
        if generation == self._generation:
            self._finish(found, names)

    def _finish(self, found: Survey, names: dict[str, str]) -> None:
        """All pictures are seen: the order by usefulness, and where the model contradicts the labels."""
        marks = self.store.marks()
        order = [names[path] for path in found.order([names[path] in marks for path in found.paths])]
        said = {names[path]: one for path, one in zip(found.paths, found.proposals, strict=True)}
        doubts = disagreements(said, marks)
        with self._lock:
            rest = set(self._order).difference(order)
            self._order = [*order, *(path for path in self._order if path in rest)]
            if self._model is not None:
                self._model.ordered = len(marks) >= ASK_FROM
            self._doubts = {**{p: r for p, r in self._doubts.items() if not r.startswith("the model sees")}, **doubts}
            self._version += 1

    def _doubt(self, reasons: dict[str, str]) -> None:
        with self._lock:
            known = set(self._order)
            kept = {p: r for p, r in self._doubts.items() if r.startswith("the model sees")}
            self._doubts = {**kept, **{path: reason for path, reason in reasons.items() if path in known}}
            self._version += 1

    def _asks(self, path: str) -> bool:
        return not self._confirmed.holds(path, self.store.get(path).mark)

    def _ranked(self, open_first: bool = False) -> list[str]:
        marks = self.store.marks()
        labelled = [path for path in self._order if path in marks]
        waiting = [path for path in self._order if path not in marks]
        return [*waiting, *labelled] if open_first else [*labelled, *waiting]


def picture_id(path: str) -> str:
    """A name for a picture that fits into any address, whatever bytes its file name has; the same at every start."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:20]


def mark_of(state: str, label: str | None, box: Sequence[float] | None) -> Mark:
    """The mark that a page means. Raises OneboxError where the parts do not fit."""
    if state == "box" and label and box is not None and len(box) == 4:
        return Mark(label, (box[0], box[1], box[2], box[3]))
    if state in {"none", "open"} and not label and box is None:
        return Mark(empty=True) if state == "none" else OPEN
    raise OneboxError("a label is a class and a box together, or none of them")


def _proposal(one: Proposal) -> dict[str, Any]:
    return {"label": one.label, "score": round(one.score, 3), "box": [round(v, 1) for v in one.box]}


def _shown(run: Path, root: str) -> str:
    """The run's place as a person would write it: from the folder, or the last of its path."""
    try:
        return str(run.resolve().relative_to(Path(root).resolve()))
    except ValueError:
        return "/".join(run.parts[-2:]).replace("//", "/")
