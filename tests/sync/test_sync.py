"""Sync-C, Sync-D, offset and SyncNet's cepstra."""

import weakref

import numpy as np
import pytest
import torch

from hallo4.errors import InputError, ShapeError
from hallo4.motion import layout
from hallo4.sync.cepstra import mfcc, syncnet_mfcc
from hallo4.sync.network import SyncNet
from hallo4.sync.score import FaceCropper, face_boxes, score_around, sync_score, syncnet_score, windows_of
from hallo4.types import Audio, Skeleton

RNG = np.random.default_rng(0)
_T = np.arange(1200)
SOUND = ((_T * _T * 7) % 2001 - 1000).astype(np.int16)
# What python_speech_features 0.6 (numpy 2.4, scipy 1.17) says of SOUND, rows 3 and 5.
ROW_3 = (
    *(18.66092878021548, -35.644750580990404, -6.594995633381791, -6.015448382660474, 2.4904887457241904),
    *(0.3992799469698491, -0.2281830394453665, -5.827024453693501, -5.736428139182828, -9.53256415747332),
    *(-4.620399093298643, 7.614791571934996, 5.135805348325494),
)
ROW_5 = (
    *(18.62560996355459, -36.15395304898492, -6.337246609725194, -4.895410376838286, -2.6478577672691443),
    *(-5.085276170370732, 3.807097906514007, 11.782791628403249, 1.0571547800160435, -2.457527640328467),
    *(-6.778407938370955, -11.09636952710036, -7.5132946273091905),
)


def test_cepstra_are_those_of_the_original_library():
    cepstra = mfcc(SOUND)
    assert cepstra.shape == (6, 13)
    assert cepstra[3] == pytest.approx(ROW_3, rel=1e-12, abs=1e-12)
    assert cepstra[5] == pytest.approx(ROW_5, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 16_000, 51_234])
def test_cepstra_equal_the_original_library_bit_for_bit(samples):
    original = pytest.importorskip("python_speech_features", reason="the 2017 library is not installed")
    sound = np.random.default_rng(samples).integers(-30_000, 30_000, samples).astype(np.int16)
    assert np.array_equal(mfcc(sound), original.mfcc(sound, 16_000))


def test_cepstra_want_the_scale_and_rate_that_syncnet_learned_on():
    audio = Audio((SOUND / 32768).astype(np.float32), 16_000)
    assert np.array_equal(syncnet_mfcc(audio), mfcc(SOUND))
    quiet = mfcc(SOUND / 32768)
    assert quiet[:, 0] - mfcc(SOUND)[:, 0] == pytest.approx(-2 * np.log(32768), abs=1e-6)
    with pytest.raises(ShapeError, match="16000 Hz; found 44100"):
        syncnet_mfcc(Audio(audio.samples, 44_100))
    with pytest.raises(InputError):
        mfcc(np.zeros(0))


def _embeddings(frames=80, width=32):
    return RNG.normal(size=(frames, width))


def test_perfect_sync_has_no_distance_no_offset_and_the_best_confidence():
    same = _embeddings()
    perfect = sync_score(same, same)
    assert perfect.distance == pytest.approx(0, abs=1e-4)
    assert perfect.offset_frames == 0
    noisy = [sync_score(same, same + s * RNG.normal(size=same.shape)) for s in (0.3, 0.6, 1.2)]
    assert [s.confidence for s in (perfect, *noisy)] == sorted(s.confidence for s in (perfect, *noisy))[::-1]
    assert [s.distance for s in (perfect, *noisy)] == sorted(s.distance for s in (perfect, *noisy))
    assert sync_score(same, _embeddings()).confidence < 0.2 * perfect.confidence


@pytest.mark.parametrize("late", range(-12, 13, 4))
def test_sound_that_is_k_frames_late_moves_the_offset_by_minus_k(late):
    whole = _embeddings(120)
    score = sync_score(whole[20:100], whole[20 - late : 100 - late])
    assert score.offset_frames == -late
    # The best shift hides it from Sync-C and Sync-D; without a shift it shows.
    assert score.confidence > 0.8 * sync_score(whole[20:100], whole[20:100]).confidence
    assert late == 0 or score.confidence_at_zero < 0.2 * score.confidence


def test_the_curve_is_what_torch_calls_pairwise_distance():
    v, a = _embeddings(6, 4), _embeddings(6, 4)
    padded = torch.nn.functional.pad(torch.tensor(a), (0, 0, 15, 15))
    rows = [torch.nn.functional.pairwise_distance(torch.tensor(v[[i]]), padded[i : i + 31]) for i in range(6)]
    assert sync_score(v, a).curve == pytest.approx(torch.stack(rows).mean(dim=0).numpy(), rel=1e-12)


def test_sync_refuses_what_has_no_windows_or_no_numbers():
    with pytest.raises(ShapeError):
        sync_score(_embeddings(5), _embeddings(6))
    broken = _embeddings(8)
    broken[2, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        sync_score(_embeddings(8), broken)
    audio = Audio(np.zeros(16_000, np.float32), 16_000)
    assert windows_of(25, audio) == 20
    assert windows_of(99, audio) == 20
    with pytest.raises(ShapeError, match="six frames"):
        windows_of(5, audio)


def test_a_clip_among_its_own_sound_scores_as_the_whole_video_does():
    """Sound three windows late. Alone, a short clip loses confidence to the zeros around it."""
    video = RNG.normal(size=(400, 16))
    sound = np.roll(video, 3, axis=0)
    whole = sync_score(video, sound)
    clip = score_around(video[200:212], sound[200 - 15 : 212 + 15])
    assert clip.offset_frames == whole.offset_frames == -3
    assert clip.distance == pytest.approx(4e-6), "nothing but the epsilon of every component"
    assert clip.confidence == pytest.approx(whole.confidence, rel=0.05)
    assert sync_score(video[200:212], sound[200:212]).confidence < 0.8 * whole.confidence
    with pytest.raises(InputError, match="not finite"):
        score_around(video[:3], np.full((33, 16), np.nan))


def test_syncnet_sees_every_window_of_five_and_few_crops_are_held():
    seen, held, crops = [], [], []

    class Watcher:
        def embed_faces(self, faces):
            seen.append(faces[:, 0, :, 0, 0])
            held.append(sum(crop() is not None for crop in crops))
            return faces.mean(dim=(3, 4)).flatten(1)

        def embed_sound(self, cepstra):
            return torch.zeros(len(cepstra), 15)

    def crop(t):
        face = np.full((224, 224, 3), t, np.uint8)
        crops.append(weakref.ref(face))
        return face

    audio = Audio((np.resize(SOUND, 70 * 640) / 32768).astype(np.float32), 16_000)
    syncnet_score(Watcher(), map(crop, range(70)), 70, audio)
    assert torch.cat(seen).tolist() == [list(range(i, i + 5)) for i in range(65)]
    assert len(crops) >= 69
    assert max(held) <= 24


def test_syncnet_sees_bgr_levels_and_four_cepstra_a_frame():
    class Spy(torch.nn.Module):
        def embed_faces(self, faces):
            self.faces = faces
            return faces.mean(dim=(3, 4)).flatten(1)

        def embed_sound(self, cepstra):
            self.cepstra = cepstra
            return torch.zeros(len(cepstra), 15)

    spy = Spy()
    faces = np.zeros((8, 224, 224, 3), np.uint8)
    faces[..., 0] = 200  # red
    audio = Audio((np.resize(SOUND, 8 * 640) / 32768).astype(np.float32), 16_000)
    syncnet_score(spy, faces, 8, audio)
    assert spy.faces.shape == (3, 3, 5, 224, 224)
    assert spy.faces[0, :, 0, 0, 0].tolist() == [0, 0, 200]
    whole = mfcc(np.resize(SOUND, 8 * 640)).T
    assert spy.cepstra[2, 0].numpy() == pytest.approx(whole[:, 8:28], abs=1e-4)


def test_syncnet_runs_end_to_end_with_its_own_graph():
    torch.manual_seed(0)
    faces = RNG.integers(0, 256, (9, 224, 224, 3), dtype=np.uint8)
    audio = Audio((np.resize(SOUND, 9 * 640) / 32768).astype(np.float32), 16_000)
    score = syncnet_score(SyncNet().eval(), faces, len(faces), audio)
    assert score.curve.shape == (31,)
    assert np.isfinite(score.curve).all()


def _skeleton(shift=(0.0, 0.0), frames=20):
    points = np.zeros((frames, 133, 2), np.float32)
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points[:, layout.FACE] = np.stack([100 + 30 * np.cos(angles), 90 + 30 * np.sin(angles)], -1)
    points[:, layout.FACE] += np.float32(shift)
    return Skeleton(points, np.ones((frames, 133), np.float32), 25.0, 200, 200)


def test_face_boxes_hold_the_face_and_its_forehead():
    box = face_boxes(_skeleton())[0]
    assert box == pytest.approx([70, 40, 130, 120], abs=0.2)
    hidden = _skeleton()
    hidden.confidence[:] = 0
    assert np.isnan(face_boxes(hidden)).all()


def test_crops_follow_the_box_and_fill_with_grey_beyond_the_frame():
    frame = np.full((200, 200, 3), 10, np.uint8)
    frame[88:92, 98:102] = 250
    boxes = np.tile([60.0, 50.0, 140.0, 130.0], (20, 1))
    boxes[7] = np.nan  # a missed frame takes its neighbour's
    cropper = FaceCropper(boxes)
    crop = cropper(7, frame)
    assert crop.shape == (224, 224, 3)
    # Square of 112 px from (44, 50): the spot at (100, 90) is its middle across, 40/112 down.
    assert crop[80, 112, 0] > 200
    edge = FaceCropper(np.tile([-40.0, 50.0, 40.0, 130.0], (20, 1)))(0, frame)
    assert (edge[:, 0] == 110).all()
    with pytest.raises(InputError, match="No face"):
        FaceCropper(np.full((4, 4), np.nan))
