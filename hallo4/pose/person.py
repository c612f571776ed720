"""Which of the people an estimator finds in a picture is meant."""

from __future__ import annotations

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import PersonChoice
from hallo4.pose.estimator import Candidate, box_centre

LARGEST = "largest"


def chosen_one(choice: PersonChoice, people: list[Candidate]) -> Candidate:
    """The one of at least one who is meant; at a place it is whoever is nearest, since the boxes of some
    estimators are of heads alone. InputError: the number is above how many there are."""
    if choice.rule == "place":
        return min(people, key=lambda one: distance_to(one.box_px, choice.place_px))
    index = choice.index(np.stack([one.box_px for one in people]))
    if index is None:
        raise InputError(
            f"{choice} was asked for, and {counted(len(people))} seen at {places_of(people)} (x,y in "
            f"pixels). Use a number up to {len(people)}, or x,y."
        )
    return people[index]


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
