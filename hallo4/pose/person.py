"""Which person of a picture is meant: the largest, the leftmost, the rightmost, a number, or a place."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from hallo4.errors import InputError
from hallo4.pose.estimator import Candidate, box_centre, box_side

LARGEST = "largest"


@dataclass(frozen=True)
class PersonChoice:
    """`word` as it was given; `number` counts from the left, from 1; `place_px` (x, y) is in the frame."""

    word: str = LARGEST
    number: int | None = None
    place_px: tuple[float, float] | None = None

    def of(self, people: list[Candidate]) -> Candidate:
        """The one meant, of at least one. InputError: the number is above how many there are."""
        ordered = from_left(people)
        if self.number is not None:
            if self.number > len(people):
                raise InputError(
                    f"person {self.number} was asked for, and {counted(len(people))} seen at "
                    f"{places_of(people)} (x,y in pixels). Use a number up to {len(people)}, or x,y."
                )
            return ordered[self.number - 1]
        if self.place_px is not None:
            return min(people, key=lambda one: distance_to(one.box_px, self.place_px))
        if self.word in ("left", "right"):
            return ordered[0 if self.word == "left" else -1]
        return max(people, key=lambda one: box_side(one.box_px))


def parse_person(word: str) -> PersonChoice:
    """`largest`, `left`, `right`, N (from the left, from 1) or `x,y` in pixels. InputError: anything else."""
    word = word.strip().lower()
    if word in (LARGEST, "left", "right"):
        return PersonChoice(word)
    if re.fullmatch(r"[1-9]\d{0,2}", word):
        return PersonChoice(word, number=int(word))
    place = re.fullmatch(r"(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)", word)
    if place:
        return PersonChoice(word, place_px=(float(place[1]), float(place[2])))
    raise InputError(
        f"person is {ascii(word)[:40]}; use largest, left, right, a number from the left (1, 2, ...), or x,y "
        "in pixels."
    )


def from_left(people: list[Candidate]) -> list[Candidate]:
    """People from left to right."""
    return sorted(people, key=lambda one: float(box_centre(one.box_px)[0]))


def places_of(people: list[Candidate]) -> str:
    """Where people are, from the left: "120,80 and 300,90"; no more than six of them."""
    places = ["{:.0f},{:.0f}".format(*box_centre(one.box_px)) for one in from_left(people)]
    shown = places[:6]
    return " and ".join(shown) + (" and further right" if len(places) > len(shown) else "")


def counted(people: int) -> str:
    """How many there are, with their verb."""
    return "1 person is" if people == 1 else f"{people} people are"


def distance_to(box_px: np.ndarray, place_px: tuple[float, float]) -> float:
    """How far a place is from a box; inside, a little less the nearer it is to the middle."""
    place = np.asarray(place_px)
    outside = float(np.linalg.norm(np.maximum(np.maximum(box_px[:2] - place, place - box_px[2:]), 0)))
    return outside + 1e-3 * float(np.linalg.norm(place - box_centre(box_px)))
