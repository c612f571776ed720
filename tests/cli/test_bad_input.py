"""Every bad input is one line on stderr that names it, exit code 2, and leaves the older video alone."""

import json
import os
import shutil
import struct
import zlib

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from safetensors.torch import load_file, save_file

from hallo4.cli import main
from hallo4.errors import CheckpointError
from hallo4.media import VideoWriter, probe_video, save_wav
from hallo4.types import Audio

WEIGHTS = "dit/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(portrait_u8, hum, tiny_model_folder, tmp_path, monkeypatch):
    """p.png, a.wav, model/, an older out.mp4, and whatever a case makes."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(portrait_u8).save("p.png")
    save_wav("a.wav", hum(0.2))
    shutil.copytree(tiny_model_folder, "model")
    (tmp_path / "out.mp4").write_bytes(b"an older video")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "text.wav").write_text("not a sound, not a video")
    return tmp_path


def refused(capsys, words, name, *, out="out.mp4"):
    """Runs the command; it must refuse, name `name`, and leave no trace."""
    before = sorted(os.listdir("."))
    defaults = ["--model", "model"] if "--model" not in words else []
    assert main(["animate", *words, "-o", out, "--steps", "1", *defaults]) == 2
    stdout, stderr = capsys.readouterr()
    lines = [line for line in stderr.splitlines() if not line.startswith(("reading", "preparing", "note:"))]
    assert stdout == ""
    assert len(lines) == 1, stderr
    assert lines[0].startswith("hallo4: error: ")
    assert name in lines[0]
    assert "Traceback" not in stderr
    assert sorted(os.listdir(".")) == before
    with open("out.mp4", "rb") as older:
        assert older.read() == b"an older video"


def truncate(path, keep=0.5):
    with open(path, "rb+") as file:
        file.truncate(int(os.path.getsize(path) * keep))


def write_png_header(path, width_px, height_px):
    """All that has to be read of a picture to know that it is too large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(
            b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        )
        file.write(struct.pack(">I", 9) + b"IDAT" + bytes(9 + 4))


@pytest.mark.parametrize(
    "image", ["nowhere.png", "folder", "empty", "text.png", "half.png", "1x1.png", "huge.png"]
)
def test_images(folder, capsys, image):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save("half.png")
    truncate("half.png")
    Image.new("RGB", (1, 1)).save("1x1.png")
    write_png_header("huge.png", 30_000, 30_000)
    refused(capsys, [image, "a.wav"], image)


@pytest.mark.parametrize(
    "audio",
    ["nowhere.wav", "folder", "empty", "text.wav", "none.wav", "nan.wav", "p.png", "mute.mp4"],
)
def test_sounds(folder, capsys, audio):
    soundfile.write("none.wav", np.zeros(0), 16000)
    soundfile.write("nan.wav", np.array([0.0, np.nan] * 800, np.float32), 16000, subtype="FLOAT")
    with VideoWriter("mute.mp4", 32, 32) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    refused(capsys, ["p.png", audio], audio)


@pytest.mark.parametrize(
    "motion",
    [
        "nowhere.mp4",
        "folder",
        "empty",
        "text.wav",
        "half.mp4",
        "a.wav",
        "frameless.mp4",
        "broken.json",
        "k.pkl",
    ],
)
def test_motions(folder, capsys, motion):
    with VideoWriter("half.mp4", 64, 64) as writer:
        for seed in range(20):
            writer.write(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8))
    truncate("half.mp4")
    with av.open("frameless.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        sound = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    (folder / "broken.json").write_text('{"format": "hallo4-keypoints", ')
    (folder / "k.pkl").write_bytes(b"\x80\x04.")
    refused(capsys, ["p.png", "a.wav", "--motion", motion], motion)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--motion-size", "1280"], "1280x720"),
        (["--motion-size", "4x4"], "width_px"),
        (["--motion-fps", "0"], "fps"),
        (["--person", "tallest"], "tallest"),
        (["--person", "2"], "k.json: person 2 from the left is not there"),
    ],
)
def test_what_is_said_of_keypoints(folder, capsys, options, name):
    people = [{"keypoints": [[20 + x % 7, x % 30, 1] for x in range(133)]}]
    (folder / "k.json").write_text(json.dumps([{"instances": people}] * 3))
    refused(capsys, ["p.png", "a.wav", "--motion", "k.json", *options], name)
    worked(
        capsys, ["p.png", "a.wav", "--motion", "k.json", "--motion-size", "40x40", "--motion-fps", "30"], 5
    )


def test_options_of_keypoints_without_keypoints(folder, capsys):
    refused(capsys, ["p.png", "a.wav", "--motion-fps", "30"], "no motion is given")


@pytest.mark.parametrize("out", ["folder", "folder/deep/er/o.mp4", "o.exe", "o", "a.wav/o.mp4"])
def test_outputs(folder, capsys, out):
    refused(capsys, ["p.png", "a.wav"], out.split("/")[0], out=out)


def test_an_output_that_is_an_input(folder, capsys):
    shutil.copy("out.mp4", "talk.mp4")
    refused(capsys, ["p.png", "a.wav", "--motion", "talk.mp4"], "talk.mp4", out="talk.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(folder, capsys):
    (folder / "folder").chmod(0o500)
    refused(capsys, ["p.png", "a.wav"], "folder", out="folder/o.mp4")


@pytest.mark.parametrize(
    "words", [["--seed=-1"], ["--guidance-scale", "nan"], ["--scale", "0"], ["--device", "abacus"]]
)
def test_numbers_out_of_range(folder, capsys, words):
    refused(capsys, ["p.png", "a.wav", *words], words[-1].split("=")[-1])


def test_steps_out_of_range(folder, capsys):
    assert main(["animate", "p.png", "a.wav", "-o", "o.mp4", "--model", "model", "--steps", "0"]) == 2
    assert "steps is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "case", ["name", "file", "missing", "extra", "shape", "pickle", "half", "description"]
)
def test_models(folder, capsys, case):
    weights, model, name = folder / "model" / WEIGHTS, "model", "proj_out.bias"
    tensors = load_file(weights)
    if case == "name":
        model = name = "tiny-nothing"
    elif case == "file":
        model = name = "a.wav"
    elif case == "missing":
        tensors.pop(name)
    elif case == "extra":
        name = "stranger"
        tensors[name] = tensors["proj_out.bias"].clone()
    elif case == "shape":
        tensors[name] = tensors[name][:3].clone()
    save_file(tensors, weights)
    if case == "pickle":
        weights.rename(folder / "model/dit/pytorch_model.bin")
        name = "pytorch_model.bin"
    elif case == "half":
        truncate(weights)
        name = weights.name
    elif case == "description":
        info = json.loads((folder / "model/model.json").read_text())
        (folder / "model/model.json").write_text(json.dumps(info | {"steps": "many"}))
        name = "steps"
    refused(capsys, ["p.png", "a.wav", "--model", model], name)


def worked(capsys, words, frames, *notes):
    assert main(["animate", *words, "-o", "new.mp4", "--steps", "1", "--model", "model"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout == "new.mp4\n"
    assert probe_video("new.mp4").frames == frames
    for note in notes:
        assert sum(note in line for line in stderr.splitlines() if line.startswith("note:")) == 1, stderr


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "I;16", "L", "exif"])
def test_images_of_every_kind_simply_work(folder, capsys, portrait_u8, mode):
    image, name = Image.fromarray(portrait_u8), "other.png"
    if mode == "I;16":
        image = Image.fromarray(portrait_u8[..., 0].astype(np.uint16) * 257)
    elif mode == "exif":
        name, exif = "other.jpg", Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        image.crop((0, 0, 40, 20)).save(name, exif=exif)
    else:
        image = image.convert(mode)
        name = "other.tif" if mode == "CMYK" else name
    if mode != "exif":
        image.save(name)
    worked(capsys, [name, "a.wav"], 5)
    info = probe_video("new.mp4")
    assert (info.height_px > info.width_px) == (mode == "exif")


@pytest.mark.parametrize(("samples", "frames"), [(320, 1), (16000, 25)])
def test_very_short_and_silent_sounds_work(folder, capsys, samples, frames):
    save_wav("quiet.wav", Audio(np.zeros(samples, np.float32), 16000))
    worked(capsys, ["p.png", "quiet.wav"], frames)


def red_bar():
    """Black with something red, as a drawn skeleton has."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:24, 8:56, 0] = 200
    return picture


@pytest.mark.parametrize(("frames", "note"), [(2, "back and forth"), (9, "skeleton: cut from")])
def test_skeletons_of_another_length_work_and_are_noted(folder, capsys, frames, note):
    with VideoWriter("s.mp4", 64, 64) as writer:
        for _ in range(frames):
            writer.write(red_bar())
    worked(capsys, ["p.png", "a.wav", "--motion", "s.mp4"], 5, note)


def test_a_variable_frame_rate_works_and_is_noted(folder, capsys):
    with av.open("vfr.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=1000)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for time_ms in (0, 40, 50, 130, 150, 190, 230):
            frame = av.VideoFrame.from_ndarray(red_bar(), format="rgb24").reformat(format="yuv420p")
            frame.pts = time_ms
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    worked(capsys, ["p.png", "a.wav", "--motion", "vfr.mkv"], 5, "variable frame rate")


def test_an_error_in_the_first_window_leaves_no_work_folder(folder, capsys, monkeypatch):
    def fails(*_, **__):
        raise CheckpointError("wav2vec2: cannot be read.")

    monkeypatch.setattr("hallo4.pipelines.job.Job.windows", fails)
    assert main(["animate", "p.png", "a.wav", "-o", "out.mp4", "--steps", "1", "--model", "model"]) == 2
    assert "wav2vec2: cannot be read." in capsys.readouterr().err
    assert not list(folder.glob(".*"))
