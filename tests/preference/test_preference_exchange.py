"""Other people's tables: there and back, and nothing that a hostile one names is touched."""

import csv
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from preference_records import both, clip, condition, pair, rating

from hallo4.errors import InputError, MissingExtraError
from hallo4.media import VideoWriter, probe_video, save_wav
from hallo4.preference import GoldAnswer, MachineScore, PreferenceStore, candidates
from hallo4.preference.exchange import export_data, import_data
from hallo4.preference.foreign import majorities, prompt_of
from hallo4.preference.schema import TABLES

FRAMES, SIZE = 10, 32


@pytest.fixture(autouse=True)
def unwatched(monkeypatch):
    monkeypatch.setattr(candidates, "watch", lambda path: None)
    monkeypatch.setattr(candidates, "amplitude_px", lambda seen: None)


def film(path, shade, frames=FRAMES, size=SIZE, audio=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    down = np.mgrid[0:size, 0:size][0]
    with VideoWriter(path, size, size, audio=audio) as writer:
        for t in range(frames):
            writer.write(
                np.stack([down * 6, np.full_like(down, shade), down + t], -1).clip(0, 255).astype(np.uint8)
            )
    return path


@pytest.fixture
def filmed(tmp_path, hum):
    """A store of three clips with media, and ratings: k0 beats k1 on both axes, ties with k2 on one."""
    store = PreferenceStore.create(tmp_path / "store")
    store.add_condition(condition())
    (store.folder / "conditions" / "c0").mkdir()
    save_wav(store.folder / "conditions" / "c0" / "speech.wav", hum(FRAMES / 25))
    for n in range(3):
        film(store.folder / "clips" / f"k{n}.mp4", 80 * n)
        store.add_clip(clip(f"k{n}", frames=FRAMES, width_px=SIZE, height_px=SIZE))
    for rater, value in (("r0", "a"), ("r1", "a"), ("r2", "b")):
        store.add_ratings(both(rater, value=value))
    store.add_rating(rating("r0", clip_a="k2", clip_b="k0", value="tie"))
    return store


def test_the_majority_speaks(filmed):
    assert majorities(filmed) == {
        ("k0", "k1"): {"alignment": 1.0, "fidelity": 1.0},
        ("k0", "k2"): {"alignment": 0.5},
    }
    filmed.add_ratings(both("r3", value="b"))
    assert majorities(filmed)["k0", "k1"] == {"alignment": 0.5, "fidelity": 0.5}


def test_scores_speak_where_nothing_was_compared(store):
    for name, value in (("k0", 4.0), ("k1", 2.0), ("k2", 4.0)):
        store.add_rating(rating(clip_id=name, value=value))
    assert majorities(store) == {
        ("k0", "k1"): {"alignment": 1.0}, ("k0", "k2"): {"alignment": 0.5}, ("k1", "k2"): {"alignment": 0.0},
    }  # fmt: skip


def test_nothing_to_export_is_said(store, tmp_path):
    with pytest.raises(InputError, match="nothing to export"):
        export_data(store, tmp_path / "out", "videoreward")


# ---------------------------------------------------------------------- VideoReward


def test_videoreward_there(filmed, tmp_path):
    assert export_data(filmed, tmp_path / "out", "videoreward") == 2
    with (tmp_path / "out" / "data.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first == {
        "path_A": "./videos/k0.mp4", "path_B": "./videos/k1.mp4", "prompt": "c0",
        "VQ": "A", "MQ": "invalid", "TA": "A",
        "fps_A": "25", "num_frames_A": "10", "fps_B": "25", "num_frames_B": "10", "simulated": "false",
    }  # fmt: skip
    assert (second["VQ"], second["TA"]) == ("invalid", "same")
    copied = tmp_path / "out" / "videos" / "k0.mp4"
    assert copied.read_bytes() == (filmed.folder / "clips" / "k0.mp4").read_bytes()


def test_videoreward_there_and_back(filmed, tmp_path):
    export_data(filmed, tmp_path / "out", "videoreward")
    store = PreferenceStore.create(tmp_path / "back")
    found = import_data(store, tmp_path / "out" / "data.csv", "videoreward")
    assert found.dropped == []
    assert len(store.clips()) == 3
    assert sorted(len(axes) for axes in majorities(store).values()) == [1, 2]
    assert {r.value for r in store.ratings()} == {"a", "tie", "cannot_judge"}
    again = import_data(store, tmp_path / "out" / "data.csv", "videoreward")
    assert again.records == 0, "importing twice adds nothing"
    made = next(iter(store.clips().values()))
    assert (made.frames, made.width_px, made.source_system) == (FRAMES, SIZE, "videoreward")
    assert probe_video(store.media_path(made.path)).has_audio


PROMPTS = ['She said "go",\nthen left; ünïcode', " kept as it is \r\n", "=1+1", "hello"]


@pytest.mark.parametrize("kind", ["videoreward", "pickapic"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_comes_out_as_it_came_in(tmp_path, kind, prompt):
    if kind == "pickapic":
        pytest.importorskip("pyarrow")
    for name, level in (("a", 20), ("b", 90)):
        film(tmp_path / "in" / f"{name}.mp4", level)
    source = table(tmp_path / "in")
    with source.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(["a.mp4", "b.mp4", prompt, "A", "same", "A", 25, 10, 25, 10])
    first, second = (PreferenceStore.create(tmp_path / name) for name in ("first", "second"))
    assert import_data(first, source, "videoreward").dropped == []
    exported = tmp_path / "out" / "data.csv" if kind == "videoreward" else tmp_path / "out.parquet"
    export_data(first, exported.parent if kind == "videoreward" else exported, kind)
    assert import_data(second, exported, kind).dropped == []
    for store in (first, second):
        (condition,) = store.conditions().values()
        assert prompt_of(store, condition) == prompt


def test_simulated_answers_stay_simulated(filmed, tmp_path):
    filmed.add_ratings(both("sim", clip_b="k2", simulated=True))
    export_data(filmed, tmp_path / "out", "videoreward")
    store = PreferenceStore.create(tmp_path / "back")
    import_data(store, tmp_path / "out" / "data.csv", "videoreward")
    assert all(r.simulated for r in store.ratings())


def table(folder, *rows, header="path_A,path_B,prompt,VQ,MQ,TA,fps_A,num_frames_A,fps_B,num_frames_B"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header, *(f"{a},{b},hello,{vq},same,{ta},25,10,25,10" for a, b, vq, ta in rows)]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


PROMPTS = ('a man, who says "hello"', "two\nlines\r\nof three", "café – 你好 ", "")


@pytest.mark.parametrize("kind", ["videoreward", "pickapic"])
def test_prompts_come_back_letter_for_letter(tmp_path, kind):
    if kind == "pickapic":
        pytest.importorskip("pyarrow")
    for name, shade in (("a", 20), ("b", 90)):
        film(tmp_path / "in" / f"{name}.mp4", shade)
    with (tmp_path / "in" / "data.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path_A", "path_B", "prompt", "VQ", "TA"])
        rows.writerows(["a.mp4", "b.mp4", prompt, "A", "B"] for prompt in PROMPTS)
    first, second = (PreferenceStore.create(tmp_path / name) for name in ("first", "second"))
    assert import_data(first, tmp_path / "in" / "data.csv", "videoreward").dropped == []
    out = tmp_path / ("out.parquet" if kind == "pickapic" else "out")
    export_data(first, out, kind)
    assert import_data(second, out if kind == "pickapic" else out / "data.csv", kind).dropped == []
    prompts = [sorted(prompt_of(s, c) for c in s.conditions().values()) for s in (first, second)]
    assert prompts[0] == prompts[1] == sorted(PROMPTS)


@pytest.mark.parametrize(
    "path",
    ["../secret.mp4", "videos/../../secret.mp4", "/etc/passwd", "~/secret.mp4", "C:\\x.mp4", "..\\secret.mp4",
     "file:///etc/passwd", "\\\\host\\x.mp4", "", "link/secret.mp4"],
)  # fmt: skip
def test_hostile_paths_refuse_the_whole_table(tmp_path, path):
    film(tmp_path / "secret.mp4", 10)
    film(tmp_path / "in" / "a.mp4", 20)
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    source = table(tmp_path / "in", ("a.mp4", "a.mp4", "A", "A"), ("a.mp4", path, "A", "A"))
    store = PreferenceStore.create(tmp_path / "store")
    with pytest.raises(InputError, match=r"data\.csv row 2: .* is not a path below the table's folder"):
        import_data(store, source, "videoreward")
    assert store.conditions() == store.clips() == {}


def test_rows_that_cannot_be_used_are_dropped_by_number(tmp_path):
    film(tmp_path / "in" / "a.mp4", 20)
    film(tmp_path / "in" / "b.mp4", 90)
    film(tmp_path / "in" / "short.mp4", 90, frames=4)
    (tmp_path / "in" / "text.mp4").write_text("not a video")
    source = table(
        tmp_path / "in",
        ("a.mp4", "gone.mp4", "A", "A"), ("a.mp4", "text.mp4", "A", "A"), ("a.mp4", "short.mp4", "A", "A"),
        ("a.mp4", "a.mp4", "A", "A"), ("a.mp4", "./b.mp4", "B", "same"),
    )  # fmt: skip
    store = PreferenceStore.create(tmp_path / "store")
    found = import_data(store, source, "videoreward")
    assert [line.split(":")[0] for line in found.dropped] == ["row 1", "row 2", "row 3", "row 4"]
    assert "no such file" in found.dropped[0]
    assert "4 frames" in found.dropped[2]
    assert {(r.axis, r.value) for r in store.ratings()} == {("fidelity", "b"), ("alignment", "tie")}


def test_a_table_that_is_none_is_named(tmp_path):
    store = PreferenceStore.create(tmp_path / "store")
    with pytest.raises(InputError, match="has no column TA, VQ"):
        import_data(store, table(tmp_path / "in", header="path_A,path_B,prompt"), "videoreward")
    film(tmp_path / "in" / "a.mp4", 20)
    with pytest.raises(InputError, match="row 1: VQ is 'better'; allowed are A, B, same and invalid"):
        import_data(store, table(tmp_path / "in", ("a.mp4", "a.mp4", "better", "A")), "videoreward")
    (tmp_path / "in" / "data.csv").write_bytes(b"path_A,path_B,prompt,VQ,TA\n\xff\xfe,b,c,A,A\n")
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        import_data(store, tmp_path / "in" / "data.csv", "videoreward")
    with pytest.raises(InputError, match="no such file"):
        import_data(store, tmp_path / "none.csv", "videoreward")


# ---------------------------------------------------------------------- parquet


@pytest.mark.parametrize("kind", ["pickapic", "parquet"])
def test_without_pyarrow_the_extra_is_named(filmed, tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hallo4\[parquet\]'"):
        export_data(filmed, tmp_path / "out", kind)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clips.parquet").write_text("x")
    source = tmp_path / "in" if kind == "parquet" else tmp_path / "in" / "clips.parquet"
    with pytest.raises(MissingExtraError):
        import_data(filmed, source, kind)


def test_every_table_goes_to_parquet_and_back(filmed, tmp_path):
    pytest.importorskip("pyarrow")
    filmed.add_score(MachineScore("k0", "fidelity", 3.25, {"ssim": 0.7}, "s", "1"))
    filmed.add_gold(GoldAnswer("k0", "k1", "fidelity", "a"))
    filmed.add_rating(rating("r9", clip_id="k0", value=4.5, flags={"k0": ("broken",)}))
    filmed.write_pairs([pair("k0", "k1")])
    written = export_data(filmed, tmp_path / "out", "parquet")
    back = PreferenceStore.create(tmp_path / "back")
    assert import_data(back, tmp_path / "out", "parquet").records == written
    for name in ("conditions", "clips", "ratings", "scores", "gold", "pairs"):
        assert getattr(back, name)() == getattr(filmed, name)(), name
    assert import_data(back, tmp_path / "out", "parquet").records == 1, "only the pairs are written anew"


def test_every_table_goes_to_json_lines_and_back(filmed, tmp_path):
    filmed.add_score(MachineScore("k0", "fidelity", 3.25, {"ssim": 0.7}, "s", "1"))
    filmed.add_gold(GoldAnswer("k0", "k1", "fidelity", "a"))
    filmed.add_rating(rating("r9", clip_id="k0", value=4.5, flags={"k0": ("broken",)}, question="lips"))
    filmed.write_pairs([pair("k0", "k1")])
    filmed.exclude("r9", "does not look")
    written = export_data(filmed, tmp_path / "out", "jsonl")
    assert sum(len(file.read_text().splitlines()) for file in (tmp_path / "out").iterdir()) == written
    back = PreferenceStore.create(tmp_path / "back")
    assert import_data(back, tmp_path / "out", "jsonl").records == written
    for name in TABLES:
        assert getattr(back, name)() == getattr(filmed, name)(), name
    with (tmp_path / "out" / "ratings.jsonl").open("ab") as file:
        file.write(b"cut sho\n" + rating(clip_id="nowhere").to_json().encode() + b"\n\xff\n")
    found = import_data(back, tmp_path / "out", "jsonl")
    assert found.records == 1, "only the pairs are written anew"
    assert [line.partition(":")[0] for line in sorted(found.dropped)] == [
        f"ratings.jsonl line {n}" for n in (10, 11, 9)
    ]


def test_a_wrong_record_in_parquet_is_named(filmed, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    row = {"schema_version": 1, "clip_a": "k0", "clip_b": "k1", "axis": "two words", "answer": "a"}
    pyarrow.parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / "gold.parquet")
    with pytest.raises(InputError, match=r"gold\.parquet row 1: goldanswer: axis: "):
        import_data(filmed, tmp_path, "parquet")
    (tmp_path / "gold.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="is no parquet file that can be read"):
        import_data(filmed, tmp_path, "parquet")
    with pytest.raises(InputError, match="holds none of conditions, clips"):
        import_data(filmed, filmed.folder, "parquet")


def test_pickapic_there_and_back(filmed, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    assert export_data(filmed, tmp_path / "out.parquet", "pickapic") == 2
    first, second = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert first["jpg_0"].startswith(b"\xff\xd8")
    assert (first["label_0"], first["label_1"], first["best_image_uid"]) == (1.0, 0.0, "k0")
    assert (second["label_0"], second["label_1"], second["best_image_uid"]) == (0.5, 0.5, "tie")
    store = PreferenceStore.create(tmp_path / "back")
    assert import_data(store, tmp_path / "out.parquet", "pickapic").dropped == []
    assert len(store.clips()) == 3
    assert {(r.axis, r.value) for r in store.ratings()} == {
        (axis, value) for axis in ("alignment", "fidelity") for value in ("a", "tie")
    }


def test_the_original_pickapic_has_pictures_only(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import io

    import pyarrow.parquet
    from PIL import Image

    def jpg(shade):
        out = io.BytesIO()
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(out, "JPEG")
        return out.getvalue()

    def row(first, second, label, has_label=True):
        labels = {"label_0": label, "label_1": None if label is None else 1 - label, "has_label": has_label}
        return {"jpg_0": first, "jpg_1": second, "caption": "a cat", **labels}

    rows = [row(jpg(10), jpg(200), 0.0), row(jpg(10), jpg(99), None, False), row(b"x", jpg(99), 1.0)]
    pyarrow.parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    store = PreferenceStore.create(tmp_path / "store")
    found = import_data(store, tmp_path / "p.parquet", "pickapic")
    assert [line.split(":")[0] for line in found.dropped] == ["row 2", "row 3"]
    assert [c.frames for c in store.clips().values()] == [1, 1]
    assert {r.value for r in store.ratings()} == {"b"}
    pyarrow.parquet.write_table(arrow.Table.from_pylist([{"caption": "x"}]), tmp_path / "q.parquet")
    with pytest.raises(InputError, match="has no column jpg_0, jpg_1, label_0"):
        import_data(store, tmp_path / "q.parquet", "pickapic")


def test_a_video_that_is_too_long_is_dropped_before_it_is_decoded(tmp_path, monkeypatch):
    from hallo4.preference import foreign

    monkeypatch.setattr(foreign, "probe_video", lambda _: SimpleNamespace(duration_s=36_000.0))
    with pytest.raises(InputError, match=r"v\.mp4: lasts 36000 s; 600 s are allowed"):
        foreign._refuse_long(tmp_path / "v.mp4")
