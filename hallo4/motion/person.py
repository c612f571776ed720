"""Which of several people is meant: the words of `--person`, and one person followed through all frames."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hallo4.errors import InputError
from hallo4.motion.layout import SEEN

_NUMBER = re.compile(r"[0-9]{1,4}")
_PLACE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*,\s*([0-9]+(?:\.[0-9]+)?)\s*")

# How far the points of a person may move from one frame to the next, in sizes of the person, before it must
# be another person; and by how much more for every frame in which no one was near.
_LARGEST_STEP, _STEP_PER_LOST_FRAME = 0.5, 0.1


@dataclass(frozen=True)
class PersonChoice:
    """The person who is meant: the largest, the one furthest left or right in the picture, the `number`-th
    from the left (from 1), or the one at `place_px` (x, y)."""

    rule: Literal["largest", "left", "right", "number", "place"] = "largest"
    number: int = 1
    place_px: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, words: str) -> PersonChoice:
        """`largest`, `left`, `right`, a number N (1 is the person furthest left), or `x,y` in pixels.
        InputError for anything else."""
        text = words.strip().lower()
        if text in ("largest", "left", "right"):
            return cls(text)  # type: ignore[arg-type]
        if _NUMBER.fullmatch(text) and int(text) >= 1:
            return cls("number", number=int(text))
        if place := _PLACE.fullmatch(text):
            return cls("place", place_px=(float(place[1]), float(place[2])))
        raise InputError(
            f"the person is {ascii(words)[:40]}; write largest, left, right, a number (1 is the person "
            "furthest left), or x,y in pixels of the picture."
        )

    def __str__(self) -> str:
        if self.rule == "number":
            return f"person {self.number} from the left"
        if self.rule == "place":
            return "the person at {:g},{:g}".format(*self.place_px)
        return f"the {self.rule}" if self.rule == "largest" else f"the person furthest {self.rule}"

    def index(self, boxes_px: np.ndarray) -> int | None:
        """Who of the people with these boxes [N, 4] (left, top, right, bottom) is meant; None: no one."""
        if not len(boxes_px):
            return None
        left, top, right, bottom = np.asarray(boxes_px, np.float64).T
        area = (right - left) * (bottom - top)
        from_left = np.argsort((left + right) / 2, kind="stable")
        if self.rule == "largest":
            return int(np.argmax(area))
        if self.rule == "place":
            x, y = self.place_px
            there = np.flatnonzero((left <= x) & (x <= right) & (top <= y) & (y <= bottom))
            return int(there[np.argmin(area[there])]) if len(there) else None
        if self.rule == "number":
            return int(from_left[self.number - 1]) if self.number <= len(from_left) else None
        return int(from_left[0 if self.rule == "left" else -1])


def figure_boxes(people: np.ndarray) -> np.ndarray:
    """Boxes [M, 4] (left, top, right, bottom) around the seen points of people [M, 133, 3] (x, y,
    confidence), each of whom has some."""
    seen = people[..., 2:] >= SEEN
    least = np.where(seen, people[..., :2], np.inf).min(axis=1)
    most = np.where(seen, people[..., :2], -np.inf).max(axis=1)
    return np.concatenate([least, most], axis=1)


def follow_person(
    people: np.ndarray, frame_of: np.ndarray, frames: int, choice: PersonChoice
) -> tuple[np.ndarray, str]:
    """One person through all frames: [T, 133, 3], zeros where they were not seen, and a note on the others.

    `people` [M, 133, 3] (x, y in pixels, confidence), each with a seen point, in the frames `frame_of` [M],
    rising. `choice` is made in the first frame that shows the most people, a place in the first that shows
    anyone; from there the person is followed both ways by nearness. In files of several people no one is
    taken who is too far away to be the same one. InputError: the choice matches no person.
    """
    chosen = np.zeros((frames, *people.shape[1:]))
    count = np.bincount(frame_of, minlength=frames)
    if count.max() == 1:
        _only(choice, figure_boxes(people[:1]), int(frame_of[0]), 1)
        chosen[frame_of] = people
        return chosen, ""
    start = int(frame_of[0]) if choice.rule == "place" else int(np.argmax(count))
    there = np.flatnonzero(frame_of == start)
    first = there[_only(choice, figure_boxes(people[there]), start, int(count.max()))]
    for numbers in (range(start, frames), range(start - 1, -1, -1)):
        last, lost = people[first], 0
        for number in numbers:
            someone = people[np.searchsorted(frame_of, number) : np.searchsorted(frame_of, number, "right")]
            found = last if number == start else _nearest(someone, last, lost)
            lost = 0 if found is not None else lost + 1
            if found is not None:
                chosen[number] = last = found
    several = int((count > 1).sum())
    return chosen, (
        f"shows up to {count.max()} people ({several} of {frames} frames show more than one); {choice} is "
        "followed; --person left, right, N or x,y chooses another"
    )


def _only(choice: PersonChoice, boxes: np.ndarray, frame: int, most: int) -> int:
    """The index that the choice makes; InputError says who is there."""
    index = choice.index(boxes)
    if index is None:
        places = "; ".join("x {:.0f}-{:.0f}, y {:.0f}-{:.0f}".format(*box[[0, 2, 1, 3]]) for box in boxes[:6])
        raise InputError(
            f"{choice} is not there: at most {most} are seen at once, in frame {frame} at {places}. Choose "
            "one of them."
        )
    return index


def _nearest(people: np.ndarray, last: np.ndarray, lost: int) -> np.ndarray | None:
    """The one of `people` [N, 133, 3] who can be `last` [133, 3], who was lost for `lost` frames."""
    best, least = None, math.inf
    left, top, right, bottom = figure_boxes(last[None])[0]
    size = max(right - left, bottom - top)
    for person in people:
        shared = (person[:, 2] >= SEEN) & (last[:, 2] >= SEEN)
        if not shared.any():
            continue
        step = float(np.linalg.norm(person[shared, :2] - last[shared, :2], axis=-1).mean())
        if step < least and step <= size * (_LARGEST_STEP + _STEP_PER_LOST_FRAME * lost):
            best, least = person, step
    return best
