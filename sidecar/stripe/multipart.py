"""Reads and writes the multipart bodies by which files are uploaded."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from sidecar.refusals import malformed

_PARTS_MAX = 20
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+/-]{1,100}")
_FILENAME = re.compile(r"[^\x00-\x1f\x7f\"\\/]{1,255}")


@dataclass
class Part:
    """One part: a field, or a file when it has a file name."""

    headers: dict[str, str] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    name: str = ""
    filename: str | None = None


def parse(body: bytes, content_type: str) -> Sequence[Part]:
    """Return the parts of a body; raise `Refused` when they can't be told for certain."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 70:
        raise malformed("", "Send the file as multipart/form-data with a boundary.", status=415)
    parts: list[Part] = []
    pending = [bytearray(), bytearray()]
    ended: list[bool] = []

    def begin() -> None:
        if len(parts) == _PARTS_MAX:
            raise malformed("", f"The multipart body has more than {_PARTS_MAX} parts.")
        parts.append(Part())

    def header_end() -> None:
        name, value = (bytes(part).decode("latin-1") for part in pending)
        if name.lower() in parts[-1].headers:
            raise malformed("", f"A part has the header {name[:64]} twice.")
        parts[-1].headers[name.lower()] = value
        pending[0].clear()
        pending[1].clear()

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin,
            "on_part_data": lambda data, start, end: parts[-1].content.extend(data[start:end]),
            "on_header_field": lambda data, start, end: pending[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: pending[1].extend(data[start:end]),
            "on_header_end": header_end,
            "on_end": lambda: ended.append(True),
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError:
        ended.clear()
    if not ended or not parts:
        raise malformed("", "The multipart body is not complete.")
    for part in parts:
        _name(part)
    return parts


def write(parts: Sequence[Part]) -> tuple[bytes, str]:
    """Return a body with a boundary of its own, and its content type."""
    boundary = f"spendgate-{secrets.token_hex(16)}"
    body = bytearray()
    for part in parts:
        disposition = f'form-data; name="{part.name}"'
        if part.filename is not None:
            disposition += f'; filename="{part.filename}"'
        body += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n".encode()
        if part.filename is not None:
            body += f"Content-Type: {part.headers['content-type']}\r\n".encode()
        body += b"\r\n" + part.content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return bytes(body), f"multipart/form-data; boundary={boundary}"


def _name(part: Part) -> None:
    kind, options = parse_options_header(part.headers.get("content-disposition", ""))
    part.name = options.get(b"name", b"").decode("latin-1")
    if kind != b"form-data" or not part.name or b"filename*" in options:
        raise malformed("", "Every part must be form-data with a name, and its file name a plain one.")
    if "content-transfer-encoding" in part.headers:
        raise malformed(part.name[:64], "Send the parts as they are, without Content-Transfer-Encoding.")
    filename = options.get(b"filename")
    if filename is None:
        if 0 in part.content:
            raise malformed(part.name[:64], "A field must not have NUL characters.")
        return
    # SDKs send the whole path that the file was opened by.
    part.filename = filename.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    if not _FILENAME.fullmatch(part.filename):
        raise malformed(part.name[:64], "A file needs a name of at most 255 characters, without quotes.")
    content_type = part.headers.setdefault("content-type", "application/octet-stream")
    if not _TOKEN.fullmatch(content_type):
        raise malformed(part.name[:64], "The content type of a file must be a plain one, such as image/png.")
