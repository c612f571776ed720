"""Whether an answer fits its question, and can have been given by a rater who watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hallo4.preference.schema import Clip
from hallo4.studio.record import Answered
from hallo4.studio.refused import Refused
from hallo4.studio.state import Task
from hallo4.studio.study import Study

_SEEN_SHARE = 0.9  # of a clip's length must have passed before an answer
_SLACK_MS = 200  # between the page's clock and ours


def checked_answer(
    answer: Answered, task: Task, study: Study, clips: Mapping[str, Clip], passed_ms: int
) -> Answered:
    """The answer with the axis of each question, shown no longer than the `passed_ms` of the server's clock.

    Refused: another number or kind of answers than was asked for, or sooner than the clip lasts.
    """
    single = len(task.given.clips) == 1
    asked = [question.name for question in study.questions]
    if sorted(answer.answers) != sorted(asked):
        raise Refused(422, f"Answer each question: {', '.join(asked)}.")
    for value in answer.answers.values():
        fits = isinstance(value, int) == single or value == "cannot_judge"
        allowed = (study.scale.ties or value != "tie") and (
            study.scale.cannot_judge or value != "cannot_judge"
        )
        if not fits or not allowed or (isinstance(value, int) and value > study.scale.points):
            raise Refused(422, "The answer is of the wrong kind for this question.")
    if single and answer.flags_right:
        raise Refused(422, "There is no second clip to flag.")
    shown_ms = answer.shown_ms
    if task.taken_back is None:
        shown_ms = min(shown_ms, passed_ms + _SLACK_MS)
        clip = clips[task.given.clips[0]]
        if shown_ms < 1000 * _SEEN_SHARE * clip.frames / clip.fps:
            raise Refused(422, "Watch to the end once before answering.")
    return replace(answer, axes={q.name: q.axis for q in study.questions}, shown_ms=shown_ms)
