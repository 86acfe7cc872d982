"""Files as answers: which bytes, of what type, and that a browser saves rather than runs them."""

import re
from dataclasses import dataclass
from mimetypes import MimeTypes
from urllib.parse import quote

from actors.core.errors import RangeNotSatisfiable

# Of Python's own list: the machine's would make one replica's answers differ from another's.
_TYPES = MimeTypes(filenames=())
_INLINE = frozenset({"text/plain", "image/png", "image/jpeg", "image/gif", "image/webp"})
"""What no browser runs anything of. HTML and SVG are not among them, and PDF is not."""

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end`, which is not included, of a file of `size` bytes. `partial`: they were asked for."""

    start: int
    end: int
    size: int
    partial: bool = False

    @property
    def length(self) -> int:
        return self.end - self.start


def span_of(asked: str | None, size: int) -> Span:
    """What a `Range` header asks for; all of the file where it asks for several parts, or for what is no range.

    Raises `RangeNotSatisfiable`.
    """
    found = _RANGE.fullmatch(asked.strip()) if asked else None
    if found is None or not any(found.groups()):
        return Span(0, size, size)
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if last and first and int(last) < int(first):
        return Span(0, size, size)
    if start >= size or start >= end:
        raise RangeNotSatisfiable(f"the file has {size:,} bytes", size_bytes=size)
    return Span(start, end, size, partial=True)


def headers_of(path: str, span: Span) -> dict[str, str]:
    """Type, size and how to take it: only plain text and pictures are shown where a browser opens them."""
    kind, encoding = _TYPES.guess_type(path.rsplit("/", 1)[-1])
    kind = kind if kind and not encoding else "application/octet-stream"
    headers = {
        "Content-Type": f"{kind}; charset=utf-8" if kind == "text/plain" else kind,
        "Content-Length": str(span.length),
        "Content-Disposition": _disposition(path, inline=kind in _INLINE),
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
    }
    if span.partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{span.size}"
    return headers


def _disposition(path: str, *, inline: bool) -> str:
    name = quote(path.rsplit("/", 1)[-1], safe="")
    return f"{'inline' if inline else 'attachment'}; filename*=UTF-8''{name}"
