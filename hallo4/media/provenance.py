"""Where a video comes from, written into the file: AI-generated, by which model, from which seed.

One JSON object travels in the container's comment (mp4, mkv, webm, gif) or in XMP (webp). It is a label for
honest people and machines, not a protection: re-encoding elsewhere drops it.
"""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path

from PIL import Image

from hallo4.errors import InputError
from hallo4.input_file import open_input
from hallo4.json_file import parse_json
from hallo4.media.files import check_input, open_media, shown
from hallo4.version import __version__

# IPTC's term for "created by a trained model", what news agencies and platforms look for.
AI_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def provenance_record(model: str, model_version: str, seed: int, **facts: str) -> dict[str, str]:
    """What `VideoWriter(provenance=...)` wants to know about a generated video; `facts` are added as they
    are."""
    return {"model": model, "model_version": model_version, "seed": str(seed), **facts}


def to_json(provenance: dict[str, str]) -> str:
    """The record as one line of JSON, with the fixed entries that every generated file carries."""
    fixed = {
        "ai_generated": "true",
        "generator": f"hallo4 {__version__}",
        "digital_source_type": AI_SOURCE_TYPE,
    }
    return json.dumps(fixed | {key: str(value) for key, value in provenance.items()}, ensure_ascii=False)


def read_provenance(path: str | os.PathLike[str]) -> dict[str, str] | None:
    """The provenance of a video, or None where the file has none of ours.

    Raises:
        InputError: the file is missing or is neither a video nor a gif/webp animation.
    """
    source = check_input(path, "a video")
    with open_input(source, "a video") as handle:
        head = handle.read(12)
    if head.startswith(b"GIF8") or (head[:4], head[8:]) == (b"RIFF", b"WEBP"):
        try:
            with open_input(source) as file, Image.open(file, formats=("GIF", "WEBP")) as image:
                texts = [image.info.get("comment", b""), _json_in_xmp(image.info.get("xmp", b""))]
        except Exception as error:
            raise InputError(
                f"{shown(path)}: is damaged or cut short ({error}). Give a whole file."
            ) from error
    else:
        with open_media(source, "a video") as container:
            texts = [text for key, text in container.metadata.items() if key.lower() == "comment"]
    for text in texts:
        try:
            record = parse_json(text, "comment")
        except InputError:
            continue
        if isinstance(record, dict) and "ai_generated" in record:
            return {str(key): str(value) for key, value in record.items()}
    return None


def tag_gif(path: Path, text: str) -> None:
    """Put `text` into the GIF at `path` as a comment extension, right after the global colour table."""
    data = path.read_bytes()
    colours = 3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0
    content = text.encode()
    blocks = b"".join(
        bytes([len(part)]) + part for part in (content[at : at + 255] for at in range(0, len(content), 255))
    )
    place = 13 + colours  # header 6, screen descriptor 7
    path.write_bytes(data[:place] + b"\x21\xfe" + blocks + b"\x00" + data[place:])


def tag_webp(path: Path, text: str) -> None:
    """Append an XMP chunk with `text` to the extended (VP8X) WebP at `path`; GIF's comment has no WebP
    counterpart."""
    xmp = _xmp(text)
    chunk = b"XMP " + len(xmp).to_bytes(4, "little") + xmp + b"\x00" * (len(xmp) % 2)
    with open(path, "r+b") as handle:
        head = bytearray(handle.read(21))
        assert head[12:16] == b"VP8X", "an animation always has the extended header"
        head[20] |= 0x04  # "there is an XMP chunk"
        handle.seek(0, os.SEEK_END)
        handle.write(chunk)
        head[4:8] = (handle.tell() - 8).to_bytes(4, "little")
        handle.seek(0)
        handle.write(head)


def _xmp(text: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{AI_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:Label>{html.escape(text)}</xmp:Label></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def _json_in_xmp(xmp: bytes) -> str:
    label = re.search(r"<xmp:Label>(.*?)</xmp:Label>", xmp.decode("utf-8", "replace"), re.DOTALL)
    return html.unescape(label[1]) if label else ""
