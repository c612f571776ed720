"""Films of a real person without keypoints beside them become clips to train on."""

import numpy as np
import pytest
import torch
from filmed_photograph import filmed
from PIL import Image, ImageFilter

pytest.importorskip("pyarrow", reason="the index is Parquet: pip install 'hallo4[data]'")

from hallo4.data import ClipFilters, PreparedClips, PrepareSettings, prepare_videos
from hallo4.errors import CheckpointError
from hallo4.media import VideoWriter

FRAMES = 11


@pytest.fixture
def films(tmp_path, hum):
    photograph = pytest.importorskip("skimage.data").astronaut()
    folder = tmp_path / "films"
    folder.mkdir()
    for name, sigma in (("sharp", 0), ("soft", 2.5)):
        with VideoWriter(folder / f"{name}.mp4", 512, 512, audio=hum(FRAMES / 25)) as writer:
            for frame in filmed(photograph, FRAMES):
                picture = Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma))
                writer.write(np.asarray(picture))
    return folder


def test_the_person_is_found_and_a_soft_face_is_dropped(films, tmp_path, light_root, tiny_model_folder):
    settings = PrepareSettings(
        str(tiny_model_folder),
        filters=ClipFilters(min_face_px=4, min_sharpness=0.25),
        estimator="light",
        speech="energy",
        weights=light_root / "pose",
    )
    prepared = prepare_videos([films], tmp_path / "shards", settings)
    rows = {row.source.split("/")[-1]: row for row in prepared.rows}
    sharp, soft = rows["sharp.mp4"], rows["soft.mp4"]
    assert (sharp.kept, sharp.keypoints_by, sharp.people, sharp.found_share) == (True, "light", 1, 1.0)
    assert sharp.face_px == pytest.approx(512 * 0.18 * 32 / 512, rel=0.2)
    assert soft.reasons == "blurred face"
    clips = PreparedClips(tmp_path / "shards")
    mouth = clips.batch(torch.tensor([0]))["regions"][0, 0].any(0)
    assert mouth[1, 1], "around (224, 150) of 512 px"
    assert prepare_videos([films], tmp_path / "shards", settings).made == {}


def test_missing_networks_are_said_before_any_work(films, tmp_path, tiny_model_folder):
    settings = PrepareSettings(str(tiny_model_folder), speech="energy", weights=tmp_path)
    with pytest.raises(CheckpointError, match="hallo4 weights fetch pose-light"):
        prepare_videos([films], tmp_path / "shards", settings)
    assert not (tmp_path / "shards" / "findings").exists()
