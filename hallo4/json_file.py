"""The one reader of JSON: files and lines of limited size and depth, checked against a type.

Whatever is wrong becomes one line that names the file and the place in it. `kind` is any type that pydantic
knows (a frozen dataclass, `dict[str, Any]`, `list[str]`): values are taken as they are written, so "16" is no
number and true is no 1.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from hallo4.errors import Hallo4Error, InputError
from hallo4.input_file import read_input, shown

MAX_BYTES = 1 << 26
"""Size limit of settings, reports and tables; readers of larger files give their own."""
MAX_DEPTH = 64
"""Lists and objects in each other."""

_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_DIGITS_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_LARGE_NUMBERS = (b"0e000", b"0e+000", b"0" * 200)
_SCAN = 1 << 20
_WANTED = {"dict_type": "a JSON object", "dataclass_type": "a JSON object", "list_type": "a list"}


def read_json(
    path: str | os.PathLike[str],
    kind: Any = Any,
    *,
    error: type[Hallo4Error] = InputError,
    advice: str = "Copy or write it again.",
    limit_bytes: int = MAX_BYTES,
) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark, as a `kind`.

    An `error` in one line, which ends with `advice`: what `hallo4.input_file.read_input` or `parse_json`
    refuses.
    """
    content = read_input(path, limit_bytes, "a JSON file", error, advice)
    return parse_json(content, shown(path), kind, error=error, advice=advice)


def read_json_lines(
    path: str | os.PathLike[str],
    kind: Any = Any,
    *,
    error: type[Hallo4Error] = InputError,
    advice: str = "Delete that line.",
    limit_bytes: int = 1 << 28,
) -> Iterator[Any]:
    """The objects of a JSON lines file as they stand there, oldest first, each checked to be a `kind`.

    A line that is no JSON was cut by a kill and is left out. An `error` as for `read_json`, naming the line:
    a line that is JSON of another kind.
    """
    name = shown(path)
    for number, line in enumerate(read_input(path, limit_bytes, "a JSON lines file", error).split(b"\n"), 1):
        try:
            value = parse_json(line, "")
        except InputError:
            continue
        checked(value, kind, f"{name} line {number}", error=error, advice=advice)
        yield value


def parse_json(
    content: bytes | str,
    name: str,
    kind: Any = Any,
    *,
    error: type[Hallo4Error] = InputError,
    advice: str = "Copy or write it again.",
) -> Any:
    """The value of a JSON text as a `kind`; `name` stands in messages.

    An `error` in one line: not UTF-8, not JSON, nested more than `MAX_DEPTH` deep (found out before it is
    parsed), a key twice in an object, NaN, infinite or a number without end, or not of the `kind`.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as cause:
        raise error(f"{name}: not text in UTF-8, so not JSON. {advice}") from cause
    raw = content if isinstance(content, bytes) else text.encode("utf-8", "surrogatepass")
    if _is_deep(raw):
        raise error(f"{name}: not JSON that is read: nested more than {MAX_DEPTH} deep. {advice}")
    alike = raw.translate(_DIGITS_ALIKE)
    large = any(number in alike for number in _LARGE_NUMBERS)
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite if large else None,
            parse_int=_finite_int if large else None,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as cause:
        raise error(
            f"{name}: not valid JSON at line {cause.lineno} column {cause.colno} ({cause.msg}); it may be "
            f"cut off. {advice}"
        ) from cause
    except ValueError as cause:
        raise error(f"{name}: not JSON that is read: {cause}. {advice}") from cause
    return checked(value, kind, name, error=error, advice=advice)


def checked(
    value: Any,
    kind: Any,
    name: str,
    *,
    error: type[Hallo4Error] = InputError,
    advice: str = "Copy or write it again.",
) -> Any:
    """`value`, parsed from JSON, as a `kind`; an `error` that names the first field which does not fit."""
    if kind is Any:
        return value
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(json.dumps(value, ensure_ascii=False), strict=True)
    except ValidationError as cause:
        raise error(f"{name}: {what_is_wrong(cause)}. {advice}") from cause


def what_is_wrong(error: Any) -> str:
    """The first complaint of a pydantic ValidationError: "field.0: what it should be (found ...)"."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    words = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] in ("missing", "missing_argument"):
        return f"{shown(place)} is missing"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {shown(place)!r}"
    found = _brief(first["input"])
    if not place:
        wanted = _WANTED.get(first["type"])
        return f"holds {found}, not {wanted}" if wanted else f"holds {found}; it {words}"
    return f"{shown(place)}: {words}; found {found}"


def _brief(value: Any) -> str:
    """A value in a message: short, one line."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _is_deep(content: bytes) -> bool:
    """Whether brackets that stand in no string are nested more than `MAX_DEPTH` deep."""
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return False
    if b"\\" in content:  # escaped quotes end no string
        content = content.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = content.translate(None, _NO_BRACKETS).split(b'"')[::2]
    brackets = np.frombuffer(b"".join(outside), np.uint8)
    depth = 0
    for start in range(0, len(brackets), _SCAN):
        part = brackets[start : start + _SCAN] & 0xDF  # the bits in which [ and {, ] and } differ
        steps = (part == 0x5B).astype(np.int32) - (part == 0x5D)
        depths = depth + np.cumsum(steps)
        if depths.max() > MAX_DEPTH:
            return True
        depth = int(depths[-1])
    return False


def _no_constant(word: str) -> None:
    raise ValueError(f"holds {word}, which is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"holds {_brief(digits)}, which is no number that can be used")
    return value


def _finite_int(digits: str) -> int:
    _finite(digits)
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_brief(twice)} stands twice in an object")
    return found
