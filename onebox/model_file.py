"""A model file with another manifest inside. Takes a finished model.onnx (or best.safetensors) and a `Manifest`; writes
a copy that differs in nothing else, atomically and proved by reading it back. Needs neither onnx nor torch: only the
outermost layer of the two formats is touched, never graph or weights.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onebox.errors import ModelError
from onebox.files import atomic_path
from onebox.manifest import METADATA_KEY, Manifest
from onebox.runtime import OnnxLocalizer

#: `ModelProto.metadata_props` and `StringStringEntryProto.key`, `.value` in onnx.proto3.
_METADATA_FIELD, _KEY_FIELD, _VALUE_FIELD = 14, 1, 2
#: Protobuf wire types (protobuf.dev, "Encoding"): a varint, eight bytes, a length and that many bytes, four bytes.
_VARINT, _EIGHT, _SIZED, _FOUR = 0, 1, 2, 5


def write_with_manifest(model: Path, manifest: Manifest, target: Path) -> None:
    """Copies `model` to `target`, which may be the same, with `manifest` in its metadata. Raises ModelError where the
    file is not what it seems, RunFolderError where `target` cannot be written; it is then as it was."""
    content = _read(model)
    try:
        kept = [content[start:end] for number, start, end, body in _fields(content) if not _is_ours(number, body)]
    except (IndexError, ValueError):
        raise ModelError("a damaged ONNX file", where=str(model)) from None
    text = manifest.to_json()
    entry = _sized(_KEY_FIELD, METADATA_KEY.encode()) + _sized(_VALUE_FIELD, text.encode())
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"".join(kept) + _sized(_METADATA_FIELD, entry))
        if OnnxLocalizer(temporary).manifest.to_json() != text:
            raise ModelError("the manifest could not be replaced", where=str(model))


def write_weights_with_manifest(weights: Path, manifest: Manifest) -> None:
    """Puts `manifest` into the header of a safetensors file, in place. Raises ModelError and RunFolderError."""
    content = _read(weights)
    try:
        (length,) = struct.unpack_from("<Q", content)
        if length > len(content) - 8:
            raise ValueError("cut short")
        header: dict[str, Any] = json.loads(content[8 : 8 + length])
        header["__metadata__"] = {**header.get("__metadata__", {}), METADATA_KEY: manifest.to_json()}
    except (struct.error, ValueError, TypeError, AttributeError):
        raise ModelError("a damaged safetensors file", where=str(weights)) from None
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors, whose places are counted from the header's end, stay aligned
    with atomic_path(weights) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror or error})", where=str(path)) from None


def _fields(message: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The fields of one protobuf message: number, where it starts and ends, and the content of sized ones."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind, body = tag & 7, b""
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _SIZED:
            size, at = _varint(message, at)
            body = message[at : at + size] if tag >> 3 == _METADATA_FIELD else b""
            at += size
        elif kind in (_EIGHT, _FOUR):
            at += 8 if kind == _EIGHT else 4
        else:
            raise ValueError(kind)
        if at > len(message):
            raise ValueError("cut short")
        yield tag >> 3, start, at, body


def _is_ours(number: int, body: bytes) -> bool:
    return number == _METADATA_FIELD and body.startswith(_sized(_KEY_FIELD, METADATA_KEY.encode()))


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("no varint is that long")


def _sized(number: int, body: bytes) -> bytes:
    return _as_varint(number << 3 | _SIZED) + _as_varint(len(body)) + body


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
