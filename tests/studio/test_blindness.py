"""What a rater can see or fetch never tells which system made a clip."""

import re

import av
import pytest
from studio_clips import SYSTEMS
from studio_people import ONCE, Person, given

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.preference import PreferenceStore
from hallo4.studio.annotate import open_studio


@pytest.fixture(scope="module")
def seen(store_template, tmp_path_factory):
    """Everything that a rater of all questions was sent: (path, headers, body); and the store behind it."""
    import shutil

    folder = shutil.copytree(store_template, tmp_path_factory.mktemp("blind") / "hidden-store-name")
    with pytest.MonkeyPatch.context() as patch, open_studio(folder, study=ONCE) as studio:
        patch.setattr("hallo4.studio.plausible._SLACK_MS", 60_000)
        client = TestClient(studio.app)
        person = Person(client, studio.keys, "curious")
        for path in (
            "/",
            "/static/rate.js",
            "/static/api.js",
            "/static/studio.css",
            "/static/words.js",
            "/nowhere",
            "/media/none",
        ):
            person.get(path)
        while hand := person.questions()["questions"]:
            person.get(hand[0]["media"])
            answered = person.answer(hand[0], "left", "cannot_judge", flags_right=["broken"])
            assert answered.status_code == 200, answered.text
        person.answer(hand[0] if hand else {"token": "0" * 32})
    sent = [
        (str(r.request.url), "\n".join(f"{k}: {v}" for k, v in r.headers.items()), r.content)
        for r in person.heard
    ]
    return sent, PreferenceStore.open(folder)


def test_no_name_anywhere(seen):
    sent, store = seen
    clips, conditions = store.clips().values(), store.conditions().values()
    secret = {
        *SYSTEMS,
        "hidden-store-name",
        "speech.wav",
        "portrait.png",
        "4711",
        "guidance",
        "3.25",
        "gamma9",
    }
    for clip in clips:
        secret |= {
            clip.clip_id,
            clip.source_system,
            clip.checkpoint,
            clip.path,
            clip.path.split("/")[-1],
            clip.sha256,
        }
    for condition in conditions:
        secret |= {condition.condition_id, condition.identity_id, condition.audio_id}
    assert len(sent) > 30
    for url, headers, body in sent:
        for word in secret:
            assert word not in url
            assert word not in headers, word
            assert word.encode() not in body, (word, url)


def test_what_a_question_is_for_is_not_told(seen):
    sent, _ = seen
    for url, _, body in sent:
        if "/api/" in url:
            assert not re.search(rb"gold|repeat|plain|role|seed|system|left_clip", body), body


def test_copies_carry_no_metadata_and_are_encoded_alike(seen, tmp_path):
    sent, _ = seen
    copies = [body for url, _, body in sent if "/media/" in url and body[4:8] == b"ftyp"]
    assert len(copies) >= 11
    shapes, encoders = set(), set()
    for body in copies:
        path = tmp_path / "copy.mp4"
        path.write_bytes(body)
        with av.open(str(path)) as container:
            texts = {
                k: v
                for k, v in container.metadata.items()
                if k not in ("major_brand", "minor_version", "compatible_brands")
            }
            assert texts == {}
            assert [stream.type for stream in container.streams] == ["video", "audio"], "one sound track"
            video = container.streams.video[0]
            assert not {
                k: v for k, v in video.metadata.items() if k not in ("language", "handler_name", "vendor_id")
            }
            shapes.add(
                (video.codec_context.name, video.width, video.height, video.frames, video.average_rate)
            )
        encoders |= set(re.findall(rb"x264 - core[^\x00]*", body))
    assert len(shapes) == 1
    assert len(encoders) == 1, "the settings of the encoder inside the stream are the same for all"


def test_addresses_are_random_and_names_of_files_are_not_told(seen):
    sent, _ = seen
    tokens = [url.split("/")[-1] for url, _, body in sent if "/media/" in url and body[4:8] == b"ftyp"]
    assert len(set(tokens)) == len(tokens)
    assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)
    told = {"content-disposition", "etag", "last-modified"}  # a copy is one file for all who see it
    for url, headers, _ in sent:
        if "/media/" in url:
            assert not told & {line.partition(":")[0] for line in headers.splitlines()}


def test_sides_are_balanced_over_systems_and_stored(seen):
    _, store = seen
    ratings = [r for r in store.ratings() if r.axis == "alignment" and r.role == "plain"]
    swapped = [r.left_clip_id == r.clip_b for r in ratings]
    assert len(swapped) == 11
    assert abs(2 * sum(swapped) - len(swapped)) <= 3
    shown = given(store)
    assert all(shown[r.event_id.split("-")[0]]["left"] == r.left_clip_id for r in ratings)
    # "left" was said throughout, so the winner is always the clip that was on the left.
    assert all({"a": r.clip_a, "b": r.clip_b}[r.value] == r.left_clip_id for r in ratings)
