"""Long, upright and changing videos, full disks, machines that are not there: one line each."""

import errno
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from talking_videos import acted, film, talking

pytest.importorskip("pyarrow", reason="the index is Parquet: pip install 'hallo4[data]'")

from hallo4.data import ClipFilters, PreparedClips, PrepareSettings, encode, observe, prepare_videos, stages
from hallo4.engine import Stage, open_engine
from hallo4.errors import InputError, OutputError
from hallo4.media import read_frames

LAX = ClipFilters(min_face_px=4, min_sharpness=0.0, min_speech=0.0)


@pytest.fixture
def settings(tiny_model_folder) -> PrepareSettings:
    return PrepareSettings(str(tiny_model_folder), filters=LAX, speech="energy")


@pytest.fixture
def videos(tmp_path, quick_world) -> Path:
    talking(quick_world, tmp_path / "videos" / "person3.mp4", 3)
    return tmp_path / "videos"


def test_a_long_video_is_prepared_part_by_part(videos, tmp_path, settings, monkeypatch):
    """In parts of ten frames, clips are those of the whole that lie in no two parts."""
    whole = prepare_videos([videos], tmp_path / "whole", settings)
    monkeypatch.setattr(observe, "PART", 10)
    parts = prepare_videos([videos], tmp_path / "parts", settings)
    assert parts.made == {"probe": 1, "shots": 1, "speech": 1, "person": 3, "clips": 3, "encode": 4}
    assert [row.start_s for row in parts.rows] == [row.start_s for row in whole.rows] == [0, 0.2, 0.4, 0.6]
    for name in ("face_px", "found_share", "hands_share", "speech_share", "sharpness"):
        values = [[getattr(row, name) for row in made.rows] for made in (parts, whole)]
        assert values[0] == pytest.approx(values[1]), name
    batches = [PreparedClips(tmp_path / name).batch(np.arange(4)) for name in ("parts", "whole")]
    for name in ("video", "skeleton", "audio_windows", "regions"):
        np.testing.assert_array_equal(batches[0][name], batches[1][name], err_msg=name)


def test_more_than_four_hours_are_refused_before_anything_is_decoded(tmp_path, settings):
    path = tmp_path / "long.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for second in (0, 5 * 3600):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = second * 25, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "long.keypoints.json").write_text("{}")
    (row,) = prepare_videos([path], tmp_path / "shards", settings).rows
    assert (row.kept, row.reasons) == (False, "unusable")
    assert row.found == f"{path}: lasts 5.0 hours; 4 are allowed. Cut it into parts."


def test_an_upright_video_keeps_its_shape(tmp_path, settings, quick_world):
    frames_u8, skeleton, audio = acted(quick_world, 6, 10)
    tall = np.concatenate([frames_u8, frames_u8[:, ::-1]], axis=1)
    film(tmp_path / "tall.mp4", tall, audio, replace(skeleton, height_px=128))
    prepare_videos([tmp_path / "tall.mp4"], tmp_path / "shards", settings)
    assert list(PreparedClips(tmp_path / "shards").groups) == ["2x6x2"]


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(videos, tmp_path, settings, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    for module in (stages, encode):
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_whole", full)
            with pytest.raises(
                OutputError, match=r"writing failed \(No space left on device\); nothing was left"
            ):
                prepare_videos([videos], tmp_path / "shards", settings)
    assert prepare_videos([videos], tmp_path / "shards", settings).made == {"encode": 4}


def test_a_video_that_changes_meanwhile_costs_its_clips(videos, tmp_path, settings, quick_world, monkeypatch):
    talking(quick_world, videos / "person4.mp4", 4)
    write, done = encode.ClipEncoder._sound, []

    def change(self, path, clip):
        if not done:
            done.append(path)
            with (videos / "person4.mp4").open("ab") as file:
                file.write(b"more")
        return write(self, path, clip)

    monkeypatch.setattr(encode.ClipEncoder, "_sound", change)
    prepared = prepare_videos([videos], tmp_path / "shards", settings)
    assert [row.kept for row in prepared.rows] == [True] * 4 + [False] * 4
    assert prepared.problems == [
        f"{videos / 'person4.mp4'}: has changed while it was prepared. Run it again."
    ]
    again = prepare_videos([videos], tmp_path / "shards", settings)
    assert all(row.kept for row in again.rows)


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path, settings):
    gone = encode.EncodeSettings(tmp_path / "gone", settings.model, "cpu")
    with open_engine() as engine, pytest.raises(OutputError, match="does not see this folder"):
        list(engine.map(Stage(encode.ClipEncoder, gone), [()]))


@pytest.mark.slow
def test_a_video_that_no_worker_survives_costs_its_own_clips(videos, tmp_path, settings, quick_world):
    """`deadly_encoder` kills its process when it meets person 4, here in one batch with person 3."""
    talking(quick_world, videos / "person4.mp4", 4)
    import deadly_encoder

    with pytest.MonkeyPatch.context() as patch, open_engine(2) as engine:
        patch.setattr("hallo4.data.prepare.ClipEncoder", deadly_encoder.DeadlyEncoder)
        prepared = prepare_videos([videos], tmp_path / "shards", settings, engine)
    assert [row.kept for row in prepared.rows] == [True] * 4 + [False] * 4
    (problem,) = prepared.problems
    assert problem.startswith(f"{videos / 'person4.mp4'}: 3 workers ended while they worked on it")
    assert len(PreparedClips(tmp_path / "shards")) == 4


def test_no_cluster_is_one_line(videos, tmp_path, settings, capsys):
    pytest.importorskip("ray", reason="needs hallo4[cluster]")
    from hallo4.cli import main

    words = ["data", "prepare", str(videos), "-o", str(tmp_path / "shards"), "--model", settings.model]
    assert main([*words, "--ray", "127.0.0.1:9"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "--ray 127.0.0.1:9: nothing answers there" in said[0]
    assert not (tmp_path / "shards").exists()


def test_the_first_frames_of_a_part_are_reached_without_those_before(videos):
    """What a part reads is what the whole has there."""
    path = videos / "person3.mp4"
    whole = list(read_frames(path))
    np.testing.assert_array_equal(list(read_frames(path, 25, 10 / 25, 20 / 25)), whole[10:20])
    with pytest.raises(InputError, match="Begin earlier"):
        read_frames(path, 25, 10.0)
