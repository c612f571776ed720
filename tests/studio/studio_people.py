"""People for the tests: they join, watch, answer."""

import json
import secrets
from dataclasses import replace

from hallo4.studio.assign import next_draw
from hallo4.studio.record import EventLine, about, key_of
from hallo4.studio.study import Checks, End, Platform, Quotas, Scale, default_study


def rate_everything(plan, raters):
    """Draws of raters who take turns until nothing is left for anybody."""
    histories, taken = {rater: [] for rater in raters}, {}
    busy = True
    while busy and sum(map(len, histories.values())) < 1000:
        busy = False
        for rater, own in histories.items():
            if draw := next_draw(plan, rater, own, taken):
                busy = True
                own.append(draw)
                if draw.role == "plain":
                    taken.setdefault(draw.question, set()).add(rater)
    return histories


def study(**changes):
    """The study of the package with other quotas, checks or whatever is named."""
    parts = {"quotas": Quotas, "checks": Checks, "scale": Scale, "end": End, "platform": Platform}
    made = {k: parts[k](**v) if k in parts and isinstance(v, dict) else v for k, v in changes.items()}
    return replace(default_study(), **made)


ONCE = study(quotas={"per_question": 1, "overlap": 0.2})
"""A fifth of the questions three times, the others once."""


def events(store):
    """What happened on the page, in order, as plain values."""
    found = store.table_of_events(EventLine, key_of, about).read().values()
    return [json.loads(event.to_json()) for event in found]


def given(store):
    """Every question that was handed out, by its token."""
    return {event["token"]: event for event in events(store) if event["event"] == "given"}


def token():
    return secrets.token_hex(16)


class Person:
    """A rater in front of `client` (a TestClient), with an own key; every response is kept in `heard`."""

    def __init__(self, client, keys, name, **more):
        self.client, self.name, self.key = client, name, token()
        self.heard = []
        body = {"invite": keys.invite, "rater": name, "key": self.key, "consent": True, **more}
        self.joined = client.post("/api/join", json=body)
        self.heard.append(self.joined)

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.name}:{self.key}"}

    def get(self, path):
        self.heard.append(self.client.get(path, headers=self.headers))
        return self.heard[-1]

    def post(self, path, body):
        self.heard.append(self.client.post(path, json=body, headers=self.headers))
        return self.heard[-1]

    def questions(self):
        found = self.get("/api/questions")
        assert found.status_code == 200, found.text
        return found.json()

    def words(self, question, alignment="left", fidelity="tie", **changes):
        answers = {"alignment": alignment, "fidelity": fidelity}
        return {
            "token": question["token"], "submit_id": token(), "answers": answers,
            "flags_left": [], "flags_right": [], "shown_ms": 5000, "ui_version": "1", **changes,
        }  # fmt: skip

    def answer(self, question, *said, **changes):
        return self.post("/api/answer", self.words(question, *said, **changes))


def rate_all(person, *said, count=100):
    """Answer what comes; how many questions these were."""
    answered = 0
    while answered < count and (hand := person.questions()["questions"]):
        assert person.answer(hand[0], *said).status_code == 200
        answered += 1
    return answered
