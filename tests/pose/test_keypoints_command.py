"""`hallo4 keypoints` from the command line, with toy networks in the place of DWPose's."""

import os
import sys
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image
from toy_networks import save_detector, save_pose, yolox_rows

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.media import VideoInfo, VideoWriter, probe_video, read_frames
from hallo4.motion import load_skeleton
from hallo4.pose import plan_jobs, save_keypoints
from hallo4.pose.measure import estimate_video, video_rate

SIZE = (160, 120)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An own folder with the toy networks as weights: a person fills most of every frame that is lit."""
    monkeypatch.chdir(tmp_path)
    save_detector(tmp_path / "weights/pose", yolox_rows([((80.0, 40.0, 560.0, 440.0), 0.9)]))
    save_pose(tmp_path / "weights/pose")
    monkeypatch.setenv("HALLO4_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path


def lit(x: int = 80) -> np.ndarray:
    frame = np.full((SIZE[1], SIZE[0], 3), 100, np.uint8)
    frame[58:62, x - 2 : x + 2, 0] = 255
    return frame


def video(path, frames, fps=25.0):
    with VideoWriter(path, *SIZE, fps) as writer:
        for frame in frames:
            writer.write(frame)


def said(capfd, *words):
    code = main(["keypoints", *map(str, words)])
    out, err = capfd.readouterr()
    return code, out.split(), err


def test_a_video_becomes_a_skeleton_file_and_a_video_of_it(place, capfd):
    video("talk.mkv", [lit(60 + k) for k in range(30)])
    code, out, err = said(capfd, "talk.mkv", "-o", "talk.keypoints.json")
    assert (code, out, err) == (0, ["talk.keypoints.json"], "")
    skeleton = load_skeleton("talk.keypoints.json")
    assert (len(skeleton), skeleton.fps, skeleton.width_px, skeleton.height_px) == (30, 25.0, *SIZE)
    np.testing.assert_allclose(skeleton.points_px[5:-5, 0, 0], 58.5 + np.arange(5, 25), atol=1)
    look = probe_video("talk.keypoints.mp4")
    assert (look.frames, look.width_px, look.height_px) == (30, 640, 480)
    drawn = next(iter(read_frames("talk.keypoints.mp4", None)))
    points = skeleton.points_px[0, 60:70] * 4  # of an eye's lids, drawn in white
    assert all(drawn[int(y), int(x)].min() > 180 for x, y in points)
    assert sorted(path.name for path in place.iterdir()) == [
        "talk.keypoints.json", "talk.keypoints.mp4", "talk.mkv", "weights",
    ]  # fmt: skip


def test_the_folder_of_the_networks_can_be_named(place, capfd, monkeypatch):
    Image.fromarray(lit()).save("p.png")
    monkeypatch.setenv("HALLO4_WEIGHTS", str(place / "empty"))
    assert said(capfd, "p.png", "-o", "out.json", "--weights", "weights/pose")[0] == 0
    code, _, err = said(capfd, "p.png", "-o", "out.json", "--weights", "far")
    assert code == 2
    assert "not in far" in err


def test_progress_counts_measuring_and_drawing(place):
    video("talk.mkv", [lit()] * 5)
    (job,) = plan_jobs("talk.mkv", "o.json")
    told = []
    save_keypoints(job, "dwpose", on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 10) for done in range(1, 11)]


def test_a_picture_and_an_npz(place, capfd):
    Image.fromarray(lit()).save("p.png")
    assert said(capfd, "p.png", "-o", "out.npz")[:2] == (0, ["out.npz"])
    assert len(load_skeleton("out.npz")) == 1
    assert Image.open("out.png").size == (640, 480)


def test_the_networks_are_opened_once_and_not_for_what_is_finished(place, capfd, monkeypatch):
    from hallo4.pose import files

    opened, load = [], files.load_estimator
    monkeypatch.setattr(files, "load_estimator", lambda *of: opened.append(of) or load(*of))
    os.mkdir("clips")
    for number in range(2):
        Image.fromarray(lit()).save(f"clips/{number}.png")
    assert said(capfd, "clips", "-o", "out")[0] == 0
    assert len(opened) == 1
    assert said(capfd, "clips", "-o", "out")[0] == 0
    assert len(opened) == 1


def fill_folder():
    os.mkdir("clips")
    for number in range(3):
        video(f"clips/{number}.mkv", [lit(70 + number)] * 3)
    Image.fromarray(lit()).save("clips/still.png")
    video("clips/dark.mkv", [np.zeros_like(lit())] * 3)
    with open("clips/broken.mp4", "wb") as file:
        file.write(b"\0" * 100)
    with open("clips/notes.txt", "w") as file:
        file.write("no video")


def test_a_folder_is_shared_by_processes_and_the_same_command_does_what_is_left(place, capfd):
    fill_folder()
    code, out, err = said(capfd, "clips", "-o", "out", "--workers", "2")
    wanted = [f"out/{name}.keypoints.json" for name in ("0", "1", "2", "still")]
    assert (code, sorted(out)) == (2, wanted)
    assert "problem: clips/broken.mp4: cannot be read as a video" in err
    assert "problem: clips/dark.mkv: no person was found in any of 3 frames" in err
    assert "error: 2 of 6 files could not be measured" in err.splitlines()[-1]
    assert "6 of 6 done" in err
    pictures = ["0.mp4", "1.mp4", "2.mp4", "still.png"]
    labels = ["0.made_by", "1.made_by", "2.made_by", "still.made_by"]
    assert {path.name for path in (place / "out/overlays").iterdir()} == {*pictures, *labels}
    times = {path: (place / path).stat().st_mtime_ns for path in wanted}
    os.remove("clips/broken.mp4")
    video("clips/dark.mkv", [lit()] * 3)
    os.remove("out/overlays/1.mp4")  # as if it had been stopped before the end
    code, out, err = said(capfd, "clips", "-o", "out")
    assert (code, sorted(out)) == (0, ["out/1.keypoints.json", "out/dark.keypoints.json"])
    assert "3 of 5 are finished already" in err
    changed = {path for path, time in times.items() if (place / path).stat().st_mtime_ns != time}
    assert changed == {"out/1.keypoints.json"}
    assert said(capfd, "clips", "-o", "out")[:2] == (0, [])
    assert len(said(capfd, "clips", "-o", "out", "--person", "left")[1]) == 5, "made for another person"


def test_a_source_that_changed_is_measured_anew(place, capfd):
    os.mkdir("clips")
    video("clips/a.mkv", [lit(70)] * 2)
    assert said(capfd, "clips", "-o", "out", "--quiet") == (0, ["out/a.keypoints.json"], "")
    later = os.stat("out/a.keypoints.json").st_mtime_ns + 10**9
    os.utime("clips/a.mkv", ns=(later, later))
    assert said(capfd, "clips", "-o", "out", "--quiet")[1] == ["out/a.keypoints.json"]


def test_notes_are_said_with_the_result(place, capfd):
    frames = [lit()] * 4 + [np.zeros_like(lit())] * 2 + [lit()] * 4
    video("gap.mkv", frames)
    code, _, err = said(capfd, "gap.mkv", "-o", ".")
    assert code == 0
    assert err.splitlines()[0] == (
        "note: the person was not found in 2 of 10 frames; 2 of them in gaps of at most 0.4 s, which were "
        "bridged"
    )
    assert (place / "gap.keypoints.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.mp4", "-o", "o.json"], "nothing.mp4: no such file"),
        (["talk.mkv", "-o", "o.txt"], "o.txt: a skeleton is saved as .json or .npz"),
        (["talk.mkv", "-o", "far/away/o.json"], "there is no folder far/away"),
        (["weights", "-o", "out"], "weights: holds no video and no picture"),
        (["talk.mkv", "-o", "o.json", "--person", "tallest"], "person is 'tallest'; write largest, left"),
        (
            ["talk.mkv", "-o", "o.json", "--person", "3"],
            "person 3 from the left was asked for, and 1 person is seen at 80,60",
        ),
        (["talk.mkv", "-o", "o.json", "--workers", "0"], "--workers is 0; it must be 1 to 256"),
        (["talk.mkv", "-o", "o.json", "--estimator", "light"], "needs the weights holistic_solution"),
        (["talk.mkv", "-o", "o.json", "--device", "cuda"], "this onnxruntime has no CUDA"),
        (["clip.mp4", "-o", "clip.json"], "clip.mp4: is one of the inputs and would be overwritten"),
        (["half.mkv", "-o", "o.json"], "half.mkv: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(place, capfd, words, message):
    video("talk.mkv", [lit()] * 3)
    video("clip.mp4", [lit()] * 3)
    whole = (place / "talk.mkv").read_bytes()
    (place / "half.mkv").write_bytes(whole[: len(whole) // 3])
    before = sorted(place.rglob("*"))
    code, out, err = said(capfd, *words)
    assert (code, out) == (2, [])
    assert err.startswith(f"hallo4: error: {message}") or message in err
    assert len(err.splitlines()) == 1
    assert sorted(place.rglob("*")) == before


def test_without_any_networks_both_fetches_are_named(place, capfd, monkeypatch):
    video("talk.mkv", [lit()] * 3)
    monkeypatch.setenv("HALLO4_WEIGHTS", str(place / "empty"))
    code, _, err = said(capfd, "talk.mkv", "-o", "o.json")
    assert code == 2
    assert "hallo4 weights fetch pose-light" in err
    assert "hallo4 weights fetch pose-dwpose" in err
    assert len(err.splitlines()) == 1


def test_without_the_extra_its_name_is_said(place, capfd, monkeypatch):
    video("talk.mkv", [lit()] * 3)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = said(capfd, "talk.mkv", "-o", "o.json")
    assert code == 2
    assert "pip install 'hallo4[pose]'" in err


def test_two_files_of_one_name_are_refused(place, capfd):
    os.mkdir("clips")
    video("clips/a.mkv", [lit()])
    Image.fromarray(lit()).save("clips/a.png")
    code, _, err = said(capfd, "clips", "-o", "out")
    assert code == 2
    assert "has both a.mkv and a.png" in err
    assert not (place / "out").exists()


def test_results_never_lie_where_they_would_be_taken_for_clips(place):
    os.mkdir("clips")
    video("clips/a.mkv", [lit()])
    (job,) = plan_jobs("clips", "clips")
    assert str(job.skeleton) == "clips/a.keypoints.json"  # where `hallo4 evaluate videos` looks for it
    assert str(job.look) == "clips/overlays/a.mp4"


@pytest.mark.parametrize(
    ("fps", "rate", "every"), [(25, 25, 1), (60, 60, 1), (120, 60, 2), (119.88, 59.94, 2), (240, 60, 4)]
)
def test_fast_videos_are_thinned_and_it_is_said(fps, rate, every):
    looked_at, notes = video_rate(VideoInfo(64, 64, fps, 100, 100 / fps, False, "h264", False))
    assert looked_at == pytest.approx(rate)
    assert notes == ([] if every == 1 else [f"{fps:g} frames a second: one in {every} was looked at"])
    uneven = video_rate(VideoInfo(64, 64, 30, 100, 3.3, False, "h264", True))
    assert uneven[1] == ["its frames come at uneven times: it was looked at at 30 a second"]


def test_a_fast_video_keeps_its_duration(place, capfd):
    video("fast.mkv", [lit(40 + k) for k in range(48)], fps=120.0)
    assert said(capfd, "fast.mkv", "-o", "o.json")[0] == 0
    skeleton = load_skeleton("o.json")
    assert (len(skeleton), skeleton.fps) == (24, 60.0)
    np.testing.assert_allclose(skeleton.points_px[4:-4, 0, 0], 38.5 + 2 * np.arange(4, 20), atol=1)


def test_pictures_an_hour_apart_show_no_movement(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for second in (0, 3600):
            frame = av.VideoFrame(64, 64, "yuvj420p")
            frame.pts, frame.time_base = second * 25, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"a\.mp4: shows 2 pictures in 3600 s"):
        estimate_video(tmp_path / "a.mp4", estimator=SimpleNamespace(name="none"))
