"""Pictures out of a multipart request. Takes the request, gives names as they were sent and bytes, all in memory:
nothing a client sends touches the disk, no name of a client's is used as one, no address is fetched.
"""

from __future__ import annotations

from typing import NamedTuple

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from onebox.web.problems import Problem

FIELD = "file"


class Upload(NamedTuple):
    """One file as it came. `name` is what the client calls it, for showing only."""

    name: str
    content: bytes


class _InMemory(MultiPartParser):
    # the guard has bounded the body; beyond this Starlette would write to a temporary file
    spool_max_size = 1 << 40


async def read_uploads(request: Request, most: int) -> list[Upload]:
    """The files of the field `file`, at least one and at most `most`. Raises Problem: 415 for what is not multipart,
    400 for what is broken, 422 for other fields or none."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Problem(
            415,
            "pictures are sent as multipart/form-data",
            f"With curl: -F {FIELD}=@picture.jpg, once for each picture.",
        )
    parser = _InMemory(request.headers, request.stream(), max_files=most, max_fields=most, max_part_size=1 << 10)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise Problem(422, f"more than {most} files in one request", "Send them in several requests.") from None
        raise Problem(400, f"the form is broken: {error.message.rstrip('.')}") from None
    uploads: list[Upload] = []
    try:
        for field, value in form.multi_items():
            if field != FIELD:
                raise Problem(422, f"unknown field {field[:80]!r}", f"Pictures go into the field {FIELD!r}.")
            if not isinstance(value, UploadFile):
                raise Problem(
                    422, f"the field {FIELD!r} holds text", "Send a file with a name; addresses are not fetched."
                )
            uploads.append(Upload(value.filename or "", value.file.read()))
    finally:
        await form.close()
    if not uploads:
        raise Problem(422, "no picture in the request", f"Send at least one, in the field {FIELD!r}.")
    return uploads
