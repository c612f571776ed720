"""What the server remembers is what is on the disk: strokes, changes by others, older events."""

from dataclasses import replace

import pytest
from studio_people import events, rate_all, study

from hallo4.errors import InputError
from hallo4.preference import PreferenceStore
from hallo4.studio.raters import delete_rater


def test_a_request_is_one_stroke_on_the_disk(opened):
    studio, join = opened(study())
    anna = join("anna")
    rate_all(anna, count=1)
    question = anna.questions()["questions"][0]
    said = []
    studio.session.store.database._open().set_trace_callback(said.append)
    anna.answer(question)
    assert [line for line in said if line.startswith("BEGIN")] == ["BEGIN IMMEDIATE"]
    assert said.count("COMMIT") == 1
    written = [line.split()[2] for line in said if line.startswith("INSERT")]
    assert written == ["ratings", "ratings", "events", "events"], (
        "the answer before, this one, a new question"
    )


@pytest.mark.parametrize("elsewhere", [True, False])
def test_clips_that_are_added_meanwhile_are_asked_about(opened, store_folder, elsewhere):
    studio, join = opened(study())
    asked = rate_all(join("anna"))
    store = PreferenceStore.open(store_folder) if elsewhere else studio.session.store
    clip = next(iter(store.clips().values()))
    store.add_clip(replace(clip, clip_id="new", source_system="new"))
    assert rate_all(join("bert")) > asked


def test_a_sound_check_of_an_older_store_counts(opened, store_folder):
    studio, join = opened(study(checks={"sound_check": True}))
    anna = join("anna")
    with studio.session.store.database.writing() as connection:
        connection.execute(
            "INSERT INTO events (key, about, record) VALUES ('heard-anna', 'anna', ?)",
            ('{"schema_version": 2, "event": "heard", "rater_id": "anna", "at_unix_ms": 1}',),
        )
    studio.session._memory._left_at = None  # as at a start
    assert len(anna.questions()["questions"]) == 2


def test_a_person_s_answers_can_be_deleted_while_the_page_is_served(opened, store_folder):
    studio, join = opened(study())
    anna, bert = join("anna"), join("bert")
    for person in (anna, bert):
        rate_all(person, count=3)
    studio.session.seal()
    other = PreferenceStore.open(store_folder)
    assert delete_rater(other, "anna") == 6
    assert anna.get("/api/questions").status_code == 401
    assert bert.questions()["done"] == 3
    assert {r.rater_id for r in studio.session.store.ratings()} == {"bert"}
    studio.session.seal()
    assert "anna" not in str(events(other))
    assert join("anna").joined.status_code == 200, "the name is free again"
    for table in ("events", "ratings"):
        rows = str(other.database._open().execute(f"SELECT record FROM {table}").fetchall())
        assert anna.key not in rows
    with pytest.raises(InputError, match="has no rater dora"):
        delete_rater(other, "dora")


def test_what_this_server_cannot_show_stays_out_after_the_store_is_read_anew(opened, store_folder):
    studio, join = opened(study())
    session = studio.session
    join("anna")
    shown = session.wanted_copies()
    clips = tuple(clip.clip_id for clip in shown[0])
    session.withdraw({clips: "no picture of it can be read"})
    left = len(session.wanted_copies())
    assert left < len(shown)
    delete_rater(PreferenceStore.open(store_folder), "anna")
    assert len(session.wanted_copies()) == left
    assert any("no picture of it" in line for line in session.overview()[2])
