"""Fifty raters at once on the rating page: python benchmarks/study_load.py [--raters 50 --answers 40].

A store of small clips, copies made beforehand, the page in a process of its own on loopback, raters as tasks
of another process over real HTTP: join, watch (as long as a clip lasts), answer, fetch the next, finish.
The server is killed (SIGKILL) and started again at even distances. One line of JSON: how long a rater waited
for the next question (without the time in which no server ran), what was lost or doubled, and codes.
Exit code 1 if anything was lost, doubled, or a rater ended without a code.
"""

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np

from hallo4.media import VideoWriter, save_wav
from hallo4.preference import Clip, Condition, GoldAnswer, PreferenceStore
from hallo4.preference.gold import GOLD_SYSTEM
from hallo4.studio.annotate import open_studio
from hallo4.studio.study import read_study
from hallo4.types import Audio

FRAMES, SIDE_PX, SYSTEMS = 20, 64, 4
STUDY = """
version = "load"
heading = "Which one?"
lead = "Look."
[[questions]]
name = "alignment"
axis = "alignment"
title = "Moves with the sound"
[[questions]]
name = "fidelity"
axis = "fidelity"
title = "Looks like a real person"
[consent]
organiser = "a script"
contact = "nobody"
retention = "a minute"
version = "1"
[quotas]
per_question = 3
per_rater = {answers}
raters = {raters}
"""
SERVER = """
import sys
from pathlib import Path
from hallo4.studio.annotate import serve
from hallo4.studio.study import read_study
serve([sys.argv[1]], port=int(sys.argv[2]), study=read_study(Path(sys.argv[3])),
      on_ready=lambda links: print(links[0].rate, flush=True))
"""


@dataclass
class Notes:
    """What the raters saw. Seconds."""

    waited: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    retries: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)


def make_store(folder: Path, questions: int) -> None:
    """Enough conditions for so many questions, and gold, of clips of 0.8 s."""
    store = PreferenceStore.create(folder)
    rng = np.random.default_rng(0)
    sound = Audio((0.1 * rng.standard_normal(round(0.8 * 16_000))).astype(np.float32), 16_000)
    conditions = -(-questions // (SYSTEMS * (SYSTEMS - 1) // 2))
    films = []
    for number in range(SYSTEMS + 1):
        path = folder / "clips" / f"film-{number}.mp4"
        with VideoWriter(path, SIDE_PX, SIDE_PX, audio=sound) as writer:
            for frame in range(FRAMES):
                shade = np.roll(np.linspace(0, 255, SIDE_PX), 3 * frame).astype(np.uint8)
                writer.write(
                    np.dstack(
                        [np.tile(shade, (SIDE_PX, 1))] * 2
                        + [np.full((SIDE_PX, SIDE_PX), 40 * number, np.uint8)]
                    )
                )
        films.append((f"clips/{path.name}", hashlib.sha256(path.read_bytes()).hexdigest()))
    home = folder / "conditions" / "all"
    home.mkdir()
    save_wav(home / "speech.wav", sound)
    for c in range(conditions):  # of the same few films and one sound, so that few copies are to be encoded
        where = "conditions/all"
        store.add_condition(
            Condition(f"c{c}", f"p{c}", f"s{c}", f"{where}/p.png", f"{where}/speech.wav", None)
        )
        for number, (path, digest) in enumerate(films[: SYSTEMS + (c < 10)]):
            system = f"system-{number}" if number < SYSTEMS else GOLD_SYSTEM
            store.add_clip(
                Clip(f"c{c}-k{number}", f"c{c}", system, 0, "none", {}, path, digest, 25.0, FRAMES, SIDE_PX,
                     SIDE_PX, "drawn", None)
            )  # fmt: skip
        if c < 10:
            store.add_gold(GoldAnswer(f"c{c}-k0", f"c{c}-k{SYSTEMS}", "fidelity", "a"))
    store.close()


class Rater:
    """One person: waits for what they see, thinks as long as a clip lasts, never gives up."""

    def __init__(self, client: httpx2.AsyncClient, invite: str, number: int, notes: Notes) -> None:
        self.client, self.invite, self.notes = client, invite, notes
        self.name, self.key = f"rater-{number:03d}", secrets.token_hex(16)

    async def ask(self, path: str, body: dict | None = None) -> tuple[dict, float]:
        """What the server says in the end, and how long the try took that succeeded."""
        headers = {"Authorization": f"Bearer {self.name}:{self.key}"}
        while True:
            begun = time.perf_counter()
            try:
                sent = self.client.get(path, headers=headers) if body is None else self.client.post(
                    path, json=body, headers=headers
                )  # fmt: skip
                found = await sent
                if found.status_code == 200:
                    return found.json(), time.perf_counter() - begun
                if found.status_code < 500 and found.status_code != 429:
                    raise RuntimeError(f"{path}: {found.status_code} {found.text}")
            except httpx2.TransportError:
                pass
            self.notes.retries += 1
            await asyncio.sleep(0.5)

    async def watch(self, question: dict) -> None:
        """Fetch the video as a browser does."""
        begun = time.perf_counter()
        while True:
            try:
                found = await self.client.get(question["media"])
                if found.status_code in (200, 206, 404, 410):
                    break
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.5)
        self.notes.watched.append(time.perf_counter() - begun)

    async def work(self) -> None:
        """Join, answer until there is nothing more, finish."""
        body = {"invite": self.invite, "rater": self.name, "key": self.key, "consent": True}
        await self.ask("api/join", body)
        state, took = await self.ask("api/questions")
        for question in state["questions"]:
            await self.watch(question)
        while state["questions"]:
            question = state["questions"][0]
            await asyncio.sleep(0.9)
            words = {
                "token": question["token"], "submit_id": secrets.token_hex(16),
                "answers": {"alignment": secrets.choice(["left", "tie", "right"]), "fidelity": "left"},
                "flags_left": [], "flags_right": [], "shown_ms": 900, "ui_version": "load",
            }  # fmt: skip
            state, took = await self.ask("api/answer", words)
            self.notes.waited.append(took)
            self.notes.answers[question["token"]] = words["answers"]["alignment"]
            if len(state["questions"]) > 1:
                await self.watch(state["questions"][1])
        state, _ = await self.ask("api/finish", {})
        self.notes.codes.append(state["ended"]["code"])


def start(folder: Path, port: int, study: Path) -> tuple[subprocess.Popen, str]:
    """The server, and the link for raters."""
    words = [sys.executable, "-c", SERVER, str(folder), str(port), str(study)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


async def run(folder: Path, study: Path, raters: int, answers: int, kills: int) -> tuple[Notes, list[float]]:
    """The raters at work, and how long no server ran at each kill."""
    server, link = start(folder, 0, study)
    base, invite = link.split("#invite=")
    port = int(base.rsplit(":", 1)[1].strip("/"))
    notes, away = Notes(), []
    limits = httpx2.Limits(max_connections=raters + 10)
    async with httpx2.AsyncClient(base_url=base, timeout=30, limits=limits) as client:
        everybody = [asyncio.create_task(Rater(client, invite, n, notes).work()) for n in range(raters)]
        for kill in range(kills):
            while len(notes.answers) < (kill + 0.5) * raters * answers / kills:
                await asyncio.sleep(0.05)
            begun = time.perf_counter()
            server.send_signal(signal.SIGKILL)
            server.wait()
            server, _ = await asyncio.to_thread(start, folder, port, study)
            away.append(time.perf_counter() - begun)
        await asyncio.gather(*everybody)
    server.send_signal(signal.SIGINT)
    server.wait(60)
    return notes, away


def judged(folder: Path, notes: Notes) -> dict:
    """What is in the store of what was acknowledged."""
    ratings = PreferenceStore.open(folder).ratings()
    found: dict[str, list] = {}
    for rating in ratings:
        if rating.axis == "alignment":
            found.setdefault(rating.event_id.partition("-")[0], []).append(rating)
    side = {"left": lambda r: {"a": r.clip_a, "b": r.clip_b}.get(r.value) == r.left_clip_id}
    same = sum(
        (found[token][0].value == "tie") == (said == "tie")
        and (said == "tie" or side["left"](found[token][0]) == (said == "left"))
        for token, said in notes.answers.items()
        if token in found
    )
    return {
        "acknowledged": len(notes.answers),
        "stored": len(found),
        "lost": len(notes.answers.keys() - found.keys()),
        "doubled": sum(len(own) - 1 for own in found.values()),
        "stored_as_said": same,
        "ratings": len(ratings),
        "raters": len({rating.rater_id for rating in ratings}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--answers", type=int, default=40)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder, study = Path(home) / "store", Path(home) / "study.toml"
        study.write_text(STUDY.format(answers=options.answers, raters=options.raters))
        make_store(folder, options.raters * options.answers // 3 + 40)
        begun = time.perf_counter()
        with open_studio(folder, study=read_study(study)) as studio:
            copies = len(studio.session.wanted_copies())
            studio.make_copies()
        encoded_s = time.perf_counter() - begun
        begun = time.perf_counter()
        notes, away = asyncio.run(run(folder, study, options.raters, options.answers, options.kills))
        took = time.perf_counter() - begun
        outcome = judged(folder, notes)
    waited = np.array(notes.waited)
    report = {
        "raters": options.raters,
        "answers_each": options.answers,
        "kills": options.kills,
        "next_question_ms": {
            "mean": round(1000 * float(waited.mean()), 1),
            "p50": round(1000 * float(np.quantile(waited, 0.5)), 1),
            "p95": round(1000 * float(np.quantile(waited, 0.95)), 1),
            "worst": round(1000 * float(waited.max()), 1),
        },
        "video_ms_p95": round(1000 * float(np.quantile(notes.watched, 0.95)), 1),
        **outcome,
        "codes": len([code for code in notes.codes if code]),
        "retries": notes.retries,
        "away_s": [round(seconds, 2) for seconds in away],
        "copies": copies,
        "copies_s": round(encoded_s, 1),
        "wall_s": round(took, 1),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(report))
    wanted = options.raters * options.answers
    sound = (
        outcome["stored"] == outcome["stored_as_said"] == wanted and not outcome["lost"] + outcome["doubled"]
    )
    return 0 if sound and report["codes"] == options.raters else 1


if __name__ == "__main__":
    sys.exit(main())
