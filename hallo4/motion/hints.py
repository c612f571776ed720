"""What a person may say about a skeleton file that the file does not say, or says wrongly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hallo4.errors import InputError
from hallo4.motion.person import PersonChoice

_SIZE = re.compile(r"\s*([0-9]{1,5})\s*[xX]\s*([0-9]{1,5})\s*")


@dataclass(frozen=True)
class MotionHints:
    """Of a skeleton file: `size_px` (width, height) of the picture that its points lie in, its `fps`, and the
    `person` to follow (see `PersonChoice.of`); None: not said."""

    size_px: tuple[int, int] | None = None
    fps: float | None = None
    person: str | None = None

    def __post_init__(self) -> None:
        """InputError: no such choice of a person."""
        if self.person is not None:
            PersonChoice.of(self.person)

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != MotionHints()

    @property
    def choice(self) -> PersonChoice:
        """The person to follow: the largest unless another one was chosen."""
        return PersonChoice() if self.person is None else PersonChoice.of(self.person)


def parse_size(words: str) -> tuple[int, int]:
    """`1280x720` -> (1280, 720), width and height in pixels. InputError for anything else."""
    found = _SIZE.fullmatch(words)
    if found is None:
        raise InputError(
            f"the size is {ascii(words)[:40]}; write width and height in pixels, as in 1280x720."
        )
    return int(found[1]), int(found[2])
