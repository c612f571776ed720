"""What a model says of its windows: how the known frame is carried, which noise, which canvas."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from watching import Killed, Watching, kill_at

from hallo4.media import probe_video
from hallo4.pipelines import PortraitAnimator, window


def test_the_known_frame_is_carried_as_the_model_says(tiny_model, portrait_u8, hum):
    """As whole levels, those of the finished frame; as floats, what was decoded, which rounds to them."""
    for kind in ("uint8", "float"):
        watching = Watching(tiny_model.autoencoder)
        model = replace(tiny_model, autoencoder=watching, info=replace(tiny_model.info, known_frames_as=kind))
        parts = list(PortraitAnimator(model).frames(portrait_u8, hum(0.6)))
        _portrait, _grey, *known = watching.encoded
        assert len(known) == 3
        fractions = 0.0
        for video, before in zip(known, parts):
            levels = (video[0, :, 0] + 1) * 127.5
            assert np.array_equal(levels.round().movedim(0, -1).numpy(), before[-1])
            fractions = max(fractions, float((levels - levels.round()).abs().max()))
        assert (fractions > 0.01) == (kind == "float")


def test_with_shared_noise_every_window_begins_alike(tiny_model, portrait_u8, hum):
    def first_latents(kind):
        seen = []

        class Noting(Watching):
            def __call__(self, latents, timestep, conditions, cache):
                if timestep[0] > 990:
                    seen.append(self.inner.video_latents(latents))
                return super().__call__(latents, timestep, conditions, cache)

        model = replace(tiny_model, backbone=Noting(tiny_model.backbone))
        model = replace(model, info=replace(model.info, window_noise=kind))
        list(PortraitAnimator(model).frames(portrait_u8, hum(0.4), seed=5, guidance_scale=1.0))
        return seen

    shared, own = first_latents("shared"), first_latents("own")
    assert len(shared) == len(own) == 3
    assert torch.equal(shared[0], shared[1])
    assert torch.equal(shared[0], shared[2])
    assert not torch.equal(own[0], own[1])


def test_bars_are_cut_from_the_finished_frames(tiny_model, hum, tmp_path):
    """27 of 40 columns of a 32-pixel canvas of 64: the video has them, the known frame has the bars too."""
    info = replace(tiny_model.info, canvas_sizes_px=((32, 64),), known_frames_as="float")
    watching = Watching(tiny_model.autoencoder)
    animator = PortraitAnimator(replace(tiny_model, info=info, autoencoder=watching))
    image = np.full((40, 34, 3), 90, np.uint8)
    parts = list(animator.frames(image, hum(0.3)))
    assert {part.shape[1:] for part in parts} == {(32, 27, 3)}
    known = watching.encoded[-1]
    assert known.shape[3:] == (32, 64)
    levels = ((known[0, :, 0] + 1) * 127.5).round().movedim(0, -1).numpy()
    assert np.array_equal(levels[:, 18:45], parts[0][-1])
    path = tmp_path / "o.mkv"
    result = animator.animate(image, hum(0.3), output=path)
    assert (probe_video(path).width_px, probe_video(path).height_px) == (27, 32)
    assert any("made on 64x32 with black bars" in note for note in result.notes)


@pytest.mark.parametrize("frames_per_latent", [1, 4])
def test_the_latents_that_hold_the_first_frames_are_counted_as_by_hand(frames_per_latent):
    """The first latent holds frame 0 alone, each later one the next group of frames."""
    for frames in range(1, 40):
        held, latents = 1, 1
        while held < frames:
            held, latents = held + frames_per_latent, latents + 1
        assert window.latents_holding(frames, frames_per_latent) == latents


def test_what_is_decoded_for_a_few_frames_is_the_head_of_the_whole(tiny_model):
    shape = tiny_model.backbone.sample_shape(17, 4, 4)
    latents = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    whole, sizes = window.decode_window(tiny_model, latents), []
    assert whole.shape == (17, 3, 32, 32)

    class Noting(Watching):
        def decode_video(self, latents):
            sizes.append(latents.shape[2])
            return self.inner.decode_video(latents)

    noting = replace(tiny_model, autoencoder=Noting(tiny_model.autoencoder))
    for frames in (1, 2, 5, 6, 16, 17):
        head = window.decode_window(noting, latents, frames)
        torch.testing.assert_close(head, whole[:frames], rtol=0, atol=1e-6)
    assert sizes == [1, 2, 2, 3, 5, 5]


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_known_frames_survive_a_kill_bit_for_bit(tiny_model, portrait_u8, hum, tmp_path, kind):
    """The next window after a kill is given the very floats that it would have been given."""
    known = {}

    class Noting(Watching):
        def encode_video(self, video_pm1):
            if video_pm1.shape[2] == 1:
                known.setdefault(now, []).append(video_pm1)
            return self.inner.encode_video(video_pm1)

    info = replace(tiny_model.info, known_frames_as=kind)
    animator = PortraitAnimator(replace(tiny_model, info=info, autoencoder=Noting(tiny_model.autoencoder)))
    now = "whole"
    animator.animate(portrait_u8, hum(0.6), output=tmp_path / "whole.mkv")
    now = "killed"
    with pytest.raises(Killed):
        animator.animate(portrait_u8, hum(0.6), output=tmp_path / "cut.mkv", on_progress=kill_at(7))
    now = "resumed"
    animator.animate(portrait_u8, hum(0.6), output=tmp_path / "cut.mkv")
    assert (tmp_path / "cut.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    _portrait, *before = known["whole"]
    _portrait, *after = known["resumed"]
    assert len(before) == 3
    assert len(after) == 3, "window 0 alone was finished"
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
