"""Supervised fine-tuning of any backbone, on the portrait world or on prepared videos, to a model folder.

    clips --autoencoder, once--> cached latents --.
    shards of `hallo4 data prepare` --------------+--batches--> fine_tuning_method --train--> folder/model

Which backbone it is, and how large, the recipe says (`tiny_dit`, `tiny_unet`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hallo4.data.clips import ClipStoreConfig, build_clips
from hallo4.data.index import differences
from hallo4.data.latents import LatentCache, RegionWeights, build_cache
from hallo4.data.prepare import stamp_of_model
from hallo4.data.prepared import PreparedClips
from hallo4.diffusion import denoise_ddim, sample_sigma, sft_loss
from hallo4.diffusion.flow import Distribution
from hallo4.errors import InputError
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.models.window_conditions import null_text
from hallo4.pipelines.model_folder import LoadedModel, load_model, save_model_folder, saved_autoencoder
from hallo4.pipelines.model_info import ModelInfo
from hallo4.ranges import BatchSize, FlowShift, Frames, NotNegative, Share, Whole
from hallo4.recipes.cards import sft_card
from hallo4.recipes.recipe import counted
from hallo4.training import (
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    batch_indices,
    found_and_wanted,
    grouped_batch_indices,
    predict,
    prediction_of,
    train,
    training_device,
)
from hallo4.training.loop import Method
from hallo4.training.reference import unwrapped
from hallo4.types import FPS, Autoencoder
from hallo4.weights.tensors import fill, read_tensors

TEXT_DIM = 16


def muon_training(
    name: str, steps: int, max_minutes: float | None, ema_decay: float, adamw_names: tuple[str, ...]
) -> TrainConfig:
    """How the tiny backbones are trained: Muon for hidden matrices and kernels, AdamW for what `adamw_names`
    names, a long anneal."""
    return TrainConfig(
        name=name,
        steps=steps,
        max_minutes=max_minutes,
        ema_decay=ema_decay,
        log_every=20,
        save_minutes=4,
        optimizer=OptimizerConfig(
            kind="muon",
            learning_rate=1e-3,
            muon_learning_rate=2.5e-3,
            weight_decay=0.02,
            adamw_names=adamw_names,
        ),
        schedule=ScheduleConfig(warmup_steps=60, anneal_fraction=0.7, final_fraction=0.02),
    )


@dataclass(frozen=True)
class FineTuneConfig:
    """One run. `regions` multiply the loss in latent cells that show mouth, eyes or hands.

    `start_from`: a model folder or name that is trained further, with its own sizes and autoencoder, such as
    `tiny-dit-sft`; None: from scratch, with `autoencoder`, `audio_proj` and what the recipe adds.

    `prepared`: a folder of `hallo4 data prepare`, made for the model of `start_from`, to train on instead of
    rendered clips.

    `shift` concentrates training on noisy latents, `known_share` of the windows know the frames before them
    (slightly wrong, by up to `known_noise`, as generated frames are), `silent_share` do without what guidance
    leaves out. `own_known_share` of those windows know frames that the model made itself, as in a long
    video, up to `own_known_rounds` windows deep: see `own_known_latents`. `window_frames`: of every clip only
    so many frames in a row are made, anywhere in it (None: all that follow the known ones); a first run on
    few frames shows a backbone of pictures more people and noise levels in the same time, a second one
    teaches it to move. `compile_blocks` saves a fifth of the time
    after a minute of compilation; it needs a C++ compiler and a backbone whose blocks are alike (the DiT).
    """

    autoencoder_recipe: ClassVar[str] = "tiny-autoencoder"
    train: TrainConfig
    start_from: str | None = None
    prepared: str | None = None
    autoencoder: str = "runs/tiny-autoencoder/autoencoder"
    audio_proj: str = "runs/tiny-audio/audio_proj.safetensors"
    clips: ClipStoreConfig = field(default_factory=lambda: ClipStoreConfig(episodes=2000))
    clips_folder: str = "runs/clips_train"
    latents_folder: str = "runs/latents_train"
    batch_size: BatchSize = 16
    shift: FlowShift = 2.0
    distribution: Distribution = "logit_normal"
    regions: RegionWeights = field(default_factory=RegionWeights)
    known_share: Share = 0.6
    known_noise: NotNegative = 0.25
    own_known_share: Share = 0.0
    own_known_rounds: Whole = 3
    silent_share: Share = 0.1
    window_frames: Frames | None = None
    compile_blocks: bool = False


class CachedClips:
    """Batches of cached latents, or of prepared clips, which have one latent shape in a batch."""

    def __init__(self, cache: LatentCache | PreparedClips, batch_size: int, seed: int) -> None:
        self.cache, self.batch_size, self.seed = cache, batch_size, seed

    def __call__(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Micro-batch `index`."""
        of = (self.batch_size, self.seed, index)
        if isinstance(self.cache, PreparedClips):
            return self.cache.batch(grouped_batch_indices([*self.cache.groups.values()], *of))
        return self.cache.batch(batch_indices(len(self.cache), *of))


def excerpt(batch: dict[str, Tensor], frames: int) -> dict[str, Tensor]:
    """`frames` frames in a row, from one random place of all clips of a batch of picture latents.

    InputError if the clips are shorter, or their latents hold several frames."""
    held = batch["skeleton"].shape[2]
    if batch["video"].shape[2] != held or frames > held:
        raise InputError(
            f"excerpts of {frames} frames of clips of {held} frames in {batch['video'].shape[2]} latents: "
            "give window_frames to a backbone of pictures only, and no more than the clips have"
        )
    start = int(torch.randint(held - frames + 1, ()))
    cut = {name: batch[name][:, :, start : start + frames] for name in ("video", "skeleton", "regions")}
    return batch | cut | {"audio_windows": batch["audio_windows"][:, start : start + frames]}


CONDITIONS = ("reference", "skeleton", "audio_windows")
"""What of a batch of cached latents a window is conditioned on."""


@torch.no_grad()
def own_known_latents(
    model: nn.Module, autoencoder: Autoencoder, batch: dict[str, Tensor], rounds: int, steps: int = 2
) -> Tensor:
    """The known frames [B, C, M, h, w] of a batch of picture latents as `model` makes them itself.

    A long video hands errors on from window to window, which a model that has only known true frames
    cannot correct. So the frames are made from the portrait on as a window of their own, shown,
    encoded again, and made again `rounds` - 1 times, after what was made before. (The frames of several
    windows in a row would be truer to use, and cost several training steps.) InputError for a backbone whose
    latents hold several frames.
    """
    bare = unwrapped(model)
    rules, count = bare.windows, bare.windows.known_frames
    if rules.frames_per_latent != 1 or bare.schedule is None:
        raise InputError(
            "this backbone cannot make known frames for its own training, because its latents hold several "
            "frames; use own_known_share=0"
        )
    audio = batch["audio_windows"][:, : count * rules.audio_rho]
    skeleton = batch["skeleton"][:, :, : count * rules.skeleton_rho]
    made = None
    for _ in range(rounds):
        conditions = rules.conditions(batch, audio, skeleton, made, continues=made is not None)
        noise = torch.randn_like(batch["reference"].expand(-1, -1, count, -1, -1))
        velocity = partial(bare, conditions=conditions, cache=bare.new_cache())
        latents = denoise_ddim(velocity, noise, steps, bare.schedule)
        shown_pm1 = autoencoder.decode_video(latents).clamp(-1, 1)
        made = rules.encode_known(autoencoder, shown_pm1, batch, torch.default_generator)
    return made


def fine_tuning_method(config: FineTuneConfig, autoencoder: Autoencoder) -> Method:
    """Denoising of a clip's last frames, given as many before as the backbone is conditioned on.

    `autoencoder`: of the latents, on the device of the model."""

    def method(model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, float]]:
        bare, size = unwrapped(model), len(batch["video"])
        rules, prediction = bare.windows, prediction_of(bare)
        before = rules.known_frames - rules.repeated_frames  # frames of the clip that are not made
        if config.window_frames is not None:
            batch = excerpt(batch, before + config.window_frames)
        video, regions = batch["video"][:, :, before:], batch["regions"][:, :, before:]
        device = video.device
        blur = config.known_noise * torch.rand(size, 1, 1, 1, 1, device=device)
        known = batch["video"][:, :, : rules.known_frames]
        known = known + blur * torch.randn_like(known)
        scene = {"reference": batch["reference"], "grey": batch["grey"]}
        if "text" in batch:
            scene["text"] = batch["text"]
        elif bare.condition_spec.text_dim is not None:
            scene["text"] = null_text(bare.condition_spec.text_dim)
        continues = torch.rand(size, device=device) < config.known_share
        if config.own_known_share:
            own = continues & (torch.rand(size, device=device) < config.own_known_share)
            if own.any():
                rounds = int(torch.randint(1, config.own_known_rounds + 1, ()))
                given = {name: batch[name][own] for name in CONDITIONS}
                known[own] = own_known_latents(model, autoencoder, given, rounds).to(known)
        conditions = rules.conditions(
            scene,
            batch["audio_windows"][:, before * rules.audio_rho :],
            batch["skeleton"][:, :, before * rules.skeleton_rho :],
            batch["known"] if "known" in batch else rules.known_from_latents(autoencoder.spec, known, scene),
            continues,
        )
        conditions = rules.unconditional(conditions, torch.rand(size, device=device) < config.silent_share)
        noise = torch.randn_like(video)
        sigma = sample_sigma(size, shift=config.shift, distribution=config.distribution).to(device)
        draws = (video, noise, sigma, vars(conditions))
        found, wanted = found_and_wanted(predict, prediction, model, *draws)
        loss = sft_loss(found, wanted, config.regions.of(regions))
        mouth = regions[:, :1].float()
        error = (found.detach() - wanted).square()
        mouth_error = (error * mouth).sum() / (mouth.sum() * video.shape[1] + 1e-6)
        return loss, {"error": float(error.mean()), "mouth_error": float(mouth_error)}

    return method


def fine_tune(
    config: FineTuneConfig,
    folder: Path,
    info: ModelInfo,
    new_backbone: Callable[[int], nn.Module],
    describe: Callable[[Any], str],
    adapt: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Path:
    """Encode what is missing, train, save the model folder `folder/model` (mean weights); returns it.

    `info`: but for the length of a window, which is that of the clips without the frames that are known.
    `new_backbone`: of so many latent channels; `describe`: it, in a line of the card; `adapt`: what
    becomes of a model that is trained further. InputError if the
    autoencoder or the audio projector has not been trained yet, or if prepared clips are not of the model.
    """
    if config.prepared is not None and config.start_from is None:
        raise InputError(
            "prepared clips are latents of one model's autoencoder: name that model with start_from."
        )
    torch.manual_seed(config.train.seed)
    start = None if config.start_from is None else _start(config.start_from, info.family)
    model = None if start is None else adapt(start.backbone).requires_grad_(True)
    autoencoder = _autoencoder(config) if start is None else start.autoencoder
    autoencoder = autoencoder.to(training_device())
    if model is None:
        model = new_backbone(autoencoder.spec.latent_channels)
        tensors = read_tensors(Path(config.audio_proj), "audio projector")
        fill(model.audio_proj, tensors, config.audio_proj, "Train it anew: hallo4 train tiny-audio.")
    rules = unwrapped(model).windows
    if config.prepared is None:
        store = build_clips(
            config.clips_folder, config.clips, on_progress=counted("shards of clips rendered")
        )
        folders = (config.latents_folder, counted("clips encoded"), rules.skeleton_rho)
        cache, frames, real = build_cache(store, autoencoder, *folders), config.clips.frames, None
    else:
        cache = _prepared(config.prepared, start)
        frames, real = cache.stamp.clip_frames, cache.licences()
        info = replace(info, size_px=start.info.size_px, canvas_sizes_px=start.info.canvas_sizes_px)
    model.audio_proj.freeze_frame_layers()  # of real recordings, which must not be forgotten
    if config.compile_blocks:
        model.compile_repeated_blocks(dynamic=False)
    data = CachedClips(cache, config.batch_size, config.train.seed)
    result = train(config.train, fine_tuning_method(config, autoencoder), model, data, folder=folder)
    info = replace(info, window_frames=frames - rules.known_frames + rules.repeated_frames)
    made_of = (config.train.seed, len(cache), result.progress.step, config.batch_size)
    card = sft_card(config.train.name, describe(model.config), autoencoder.config, *made_of, real)
    with result.ema.applied(model):
        audio = LogMelFrontEnd().to_config()
        return save_model_folder(folder / "model", info, model, autoencoder, audio, card)


def _prepared(folder: str, start: LoadedModel) -> PreparedClips:
    """The clips in a folder of shards. InputError: they were not made for the model that is trained."""
    clips = PreparedClips(folder)
    wanted = stamp_of_model(start, start.info.name, clips.stamp.clip_frames)
    differ = differences(clips.stamp, wanted)
    if differ:
        raise InputError(
            f"{folder}: holds clips for {clips.stamp.model}, which differ from those for "
            f"{start.info.name} in {', '.join(differ)}. Prepare the videos with --model {start.folder}."
        )
    return clips


def _start(name: str, family: str) -> LoadedModel:
    """A model to train further; InputError if the sound of the clips or this recipe is not for it."""
    start = load_model(name)
    rules, found = start.backbone.windows, start.info.family
    if found != family:
        raise InputError(f"{name} is a {found}, and this recipe trains a {family}: take the other recipe.")
    if rules.audio_rho != 1 or start.audio_front_end.to_config() != LogMelFrontEnd().to_config():
        raise InputError(
            f"{name} takes sound that the rendered clips do not hold (log-mel at {FPS:g} Hz); only models of "
            "that are trained further."
        )
    return start


def _autoencoder(config: FineTuneConfig) -> TinyVideoAutoencoder:
    """The autoencoder of a new model; InputError if it or the audio projector has not been
    trained yet."""
    for maker, path in ((config.autoencoder_recipe, config.autoencoder), ("tiny-audio", config.audio_proj)):
        if not Path(path).exists():
            raise InputError(f"{path} is missing; make it first: hallo4 train {maker}")
    return saved_autoencoder(config.autoencoder)
