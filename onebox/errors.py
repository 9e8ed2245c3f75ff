"""The exception tree. Every error a user can cause or meet is one of these; each says what
happened, where (`file:line`), and what to do. Nothing here imports anything of onebox.

    OneboxError
    ├── DataError            the data set as a whole cannot be used
    │   ├── LayoutError      no reader knows this layout, or two claim it
    │   ├── AnnotationError  one line of one annotation file is wrong
    │   └── PictureError     one picture cannot be read
    ├── ModelError           a model file is missing, damaged, or not one of ours
    ├── CalibrationError     a promise that this model's calibration cannot keep, or that it has none for
    ├── ConfigError          a setting has an unknown name or an impossible value
    ├── RunFolderError       the output folder holds a run already, or cannot be written
    ├── WeightsError         pretrained weights could not be had
    ├── TrainingError        training could not start or had to stop
    ├── ExportError          the exported model does not do what the trained one does
    └── MissingExtraError    an optional part is not installed
"""

from __future__ import annotations


class OneboxError(Exception):
    """Base of all onebox errors.

    `what` is one sentence without a full stop; `where` is `file` or `file:line`; `fix` says what to do.
    `str(error)` is a single line: "where: what. fix".
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if self.fix:
            line = f"{line.rstrip('.')}. {self.fix}"
        return " ".join(line.split())


class DataError(OneboxError):
    """The data set as a whole cannot be used."""


class LayoutError(DataError):
    """No reader knows this layout, or more than one claims it."""


class AnnotationError(DataError):
    """One line of one annotation file is wrong."""


class PictureError(DataError):
    """One picture cannot be read: missing, truncated, not a picture, or too large."""


class ModelError(OneboxError):
    """A model file is missing, damaged, or was not made by onebox."""


class CalibrationError(OneboxError):
    """A coverage, or an answer about presence, that the model's calibration cannot give; or there is no calibration."""


class ConfigError(OneboxError):
    """A setting has an unknown name or an impossible value."""


class RunFolderError(OneboxError):
    """The output folder holds a run already, or cannot be written."""


class WeightsError(OneboxError):
    """Pretrained weights could not be downloaded, found, or fitted to the trunk."""


class TrainingError(OneboxError):
    """Training could not start or had to stop."""


class ExportError(OneboxError):
    """The exported model differs from the trained one by more than is allowed."""


class MissingExtraError(OneboxError):
    """An optional part of onebox is not installed; the message names the pip command."""
