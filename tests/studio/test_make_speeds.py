"""Speed in the studio for makers: what it means for a model, and for the frames of a job."""

import numpy as np
import pytest
from studio_makers import Program, png_of, wav_of

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.media import read_frames
from hallo4.pipelines import PortraitAnimator
from hallo4.studio.make import open_makers
from hallo4.studio.make.offers import speeds_of


@pytest.mark.parametrize(
    ("steps", "scale", "expected"),
    [(50, 3.5, [(50, 3.5, 1), (25, 3.5, 2), (13, 1.0, 100 / 13)]), (1, 1.0, [(1, 1.0, 1)] * 3)],
)
def test_the_speeds_of_a_model(steps, scale, expected):
    found = speeds_of(steps, scale)
    assert [(of.steps, of.guidance_scale, of.times) for of in found.values()] == expected


def test_a_speed_chooses_steps_and_guidance_and_what_is_given_comes_first(
    tiny_model_folder, portrait_u8, hum, tmp_path
):
    (tmp_path / "me.png").write_bytes(png_of(portrait_u8))
    content = {"portrait": png_of(portrait_u8), "voice": wav_of(hum(0.6), tmp_path)}
    with open_makers(tmp_path / "studio", [str(tiny_model_folder)], ["cpu"]) as makers:
        program = Program(TestClient(makers.app), makers.key)
        offered = program.get("/api/studio").json()["models"][0]
        effort = {name: (of["steps"], of["guidance_scale"]) for name, of in offered["speeds"].items()}
        assert effort == {"full": (2, 2.0), "fast": (1, 2.0), "draft": (1, 1.0)}, "of 2 steps with guidance"
        assert [of["times"] for of in offered["speeds"].values()] == [1, 2, 4]
        files = {role: program.send(role, f"{role}.x", sent).json()["id"] for role, sent in content.items()}
        files |= {"model": "testling", "seed": 5}
        looked = [
            program.post("/api/preview", files | {"speed": "fast"} | more).json()["estimate"]
            for more in ({}, {"steps": 9})
        ]
        assert ["1 steps each" in looked[0], "9 steps each" in looked[1]] == [True, True]
        job = program.wait(program.add(files | {"speed": "draft"}).json()["id"])
        assert job["settings"]["speed"] == "draft", "so that the same can be made again"
        (tmp_path / "http.mp4").write_bytes(program.client.get(job["video"]).content)
    animator = PortraitAnimator.from_pretrained(tiny_model_folder, device="cpu")
    effort = {"seed": 5, "steps": 1, "guidance_scale": 1.0}
    inputs = (tmp_path / "me.png", tmp_path / "voice.wav")
    animator.animate(*inputs, output=tmp_path / "here.mp4", **effort)
    ours, theirs = (np.stack(list(read_frames(tmp_path / name))) for name in ("here.mp4", "http.mp4"))
    np.testing.assert_array_equal(ours, theirs)
