"""The portrait that a video was made from, a picture beside it, whose face identity is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hallo4.errors import InputError
from hallo4.evaluation.look.sidecars import finite_features
from hallo4.evaluation.look.tools import VideoTools
from hallo4.evaluation.measures.identity import align_face, five_points
from hallo4.media import load_image


@dataclass(frozen=True)
class Portrait:
    """A portrait: the name of its file, and `faces`: encoder -> [D]; none where no face is seen in it."""

    name: str
    faces: dict[str, np.ndarray]


def look_at_portrait(file: Path, video: Path, tools: VideoTools) -> Portrait:
    """Find and encode the face in the portrait beside a video, by the keypoints beside it or else by
    what finds those of the video. InputError: no face is found, or it cannot be read.
    """
    picture_u8 = load_image(file)
    five = five_points(tools.keypoints.of_portrait(file, picture_u8, video))[0]
    if not np.isfinite(five).all():
        raise InputError(
            f"{file.name}: eyes, nose and corners of the mouth are not seen together, so identity is not "
            "measured. Give a portrait that shows them, or its keypoints."
        )
    face = align_face(picture_u8, five)[None]
    vectors = {name: np.asarray(encoder(face), np.float64) for name, encoder in tools.faces.items()}
    return Portrait(
        file.name,
        {name: finite_features(v, tools.faces[name].name, file.name)[0] for name, v in vectors.items()},
    )
