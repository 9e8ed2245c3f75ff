"""From a manifest's `calibration` field to what it holds, and back. Takes and gives plain JSON values; checks them, as
model files come from other people. Fits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from onebox.calibration.conformal import damaged
from onebox.calibration.fitted import Calibration
from onebox.calibration.presence import Presence
from onebox.errors import ModelError

_PRESENCE = "presence"


def read_calibration(raw: Mapping[str, Any], *, where: str = "") -> tuple[Calibration | None, Presence | None]:
    """The two parts of a manifest's `calibration`, each None where it is missing. Raises ModelError, naming `where`,
    for damaged ones."""
    try:
        own = {key: value for key, value in raw.items() if key != _PRESENCE}
        presence = raw.get(_PRESENCE)
        if presence is not None and not isinstance(presence, Mapping):
            raise damaged(_PRESENCE)
        return (
            Calibration.from_dict(own) if own else None,
            Presence.from_dict(cast("Mapping[str, Any]", presence)) if presence is not None else None,
        )
    except ModelError as error:
        raise ModelError(error.what, where=where or None, fix=error.fix) from None


def merged(raw: Mapping[str, Any], calibration: Calibration | None, presence: Presence | None) -> dict[str, Any]:
    """A manifest's `calibration` with the given parts put in; those that are None stay as they are in `raw`."""
    kept = dict(raw)
    if calibration is not None:
        kept = {_PRESENCE: raw[_PRESENCE]} if _PRESENCE in raw else {}
        kept |= calibration.to_dict()
    if presence is not None:
        kept[_PRESENCE] = presence.to_dict()
    return kept
