"""The layers of a wav2vec2 encoder at video rate: the front end of the released weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hallo4.errors import CheckpointError, MissingExtraError
from hallo4.input_file import check_regular
from hallo4.json_file import checked, read_json
from hallo4.models.sound_checks import BLOCK, audio_at_rate, check_rows, check_source, finite_only
from hallo4.ranges import Range
from hallo4.types import FPS, Audio, SampleSource
from hallo4.weights.module_folder import shapes_alone
from hallo4.weights.tensors import read_headers

WHOLE_S = 60
"""A sound up to this long goes through the encoder as a whole, as in the released program. With
wav2vec2-base this takes up to 1 GB besides the weights; stretches of a longer one take 0.2 GB."""
STRETCH_S, CONTEXT_S = 6, 2
"""A longer one goes through it in stretches, each with what lies around it on both sides."""

_LEAST_SAMPLES = 400  # one step of the convolutions
_VARIANCE_FLOOR = 1e-7  # of the published feature extractor (transformers, feature_extraction_wav2vec2.py)


@dataclass(frozen=True)
class _Sizes:
    """The fields of `config.json` that are used here; the rest is for transformers."""

    num_hidden_layers: Annotated[int, Range(1, 1000)] = 12
    hidden_size: Annotated[int, Range(1, 65_536)] = 768


@dataclass(frozen=True)
class _Sound:
    """The fields of `preprocessor_config.json` that are used."""

    sampling_rate: Annotated[int, Range(1000, 1_000_000)] = 16_000
    do_normalize: bool = True


class Wav2Vec2FrontEnd:
    """The layers of a wav2vec2 encoder at video rate; needs the extra `released`.

    With `rate_hz` 50 they come about as often as the encoder makes them.

    `folder` holds `config.json` and `model.safetensors` as Hugging Face publishes them (wav2vec2-base-960h:
    12 blocks of 768 channels, 16 kHz). Nothing is ever downloaded; weights are read when the first features
    are asked for, and computed with on `device`. Features are `hidden_states[1:]`, with the 49.95 Hz output
    of the convolutions brought to the frame count (linear, align_corners=True) *before* the encoder.

    Source: hallo4 utils/wav2vec.py:72-74,193-206 and prep.py:403-404. Different here: a sound longer than a
    minute is encoded in stretches of six seconds with two seconds of context on each side, so that it takes
    the memory of ten seconds (the speech recognition of transformers cuts long files likewise, by default
    with a sixth of a chunk as context on each side); mean and variance are summed in fp64; and no voice is
    separated from music beforehand.

    CheckpointError: no such folder, foreign or incomplete weights. MissingExtraError: no transformers.
    """

    from_video_sound: ClassVar[bool] = False

    def __init__(self, folder: str | Path, rate_hz: float = FPS, device: str | torch.device = "cpu") -> None:
        self.folder, self.rate_hz, self.device = Path(folder), rate_hz, torch.device(device)
        config = read_json(self.folder / "config.json", dict[str, Any], error=CheckpointError)
        if config.get("model_type") != "wav2vec2":
            raise CheckpointError(
                f"{self.folder / 'config.json'}: model_type is {config.get('model_type')!r}; allowed is "
                f"'wav2vec2'; point to a folder such as wav2vec2-base-960h"
            )
        sizes = checked(config, _Sizes, str(self.folder / "config.json"), error=CheckpointError)
        preprocessor = self.folder / "preprocessor_config.json"
        sound = _Sound()
        if preprocessor.exists():
            sound = read_json(preprocessor, _Sound, error=CheckpointError)
        self.blocks, self.channels = sizes.num_hidden_layers, sizes.hidden_size
        self.sample_rate_hz, self.normalises = sound.sampling_rate, sound.do_normalize
        self._model: nn.Module | None = None

    def stream(self, sound: SampleSource, frames: int) -> Wav2Vec2Stream:
        """The features of a sound: ceil(S / 640) rows at 25 Hz, or `frames` where these are more.

        What is behind the end of the sound is silence. InputError: samples that are not finite. ShapeError:
        another sample rate, or frames < 1.
        """
        check_source(sound, self.sample_rate_hz, frames)
        return Wav2Vec2Stream(self, sound, frames)

    def features(self, audio: Audio, frames: int) -> Tensor:
        """[frames, blocks, channels] float32 of a sound in memory at any rate; errors as for `stream`.

        InputError also for sound that is not mono.
        """
        return self.stream(audio_at_rate(audio, self.sample_rate_hz), frames).features(0, frames)

    def to_config(self) -> dict[str, Any]:
        """What `audio/config.json` holds; `audio_front_end_from_config` reads it back."""
        return {"kind": "wav2vec2", "path": str(self.folder), "rate_hz": self.rate_hz}

    @torch.no_grad()
    def encode(self, samples: np.ndarray, frames: int) -> Tensor:
        """One forward: normalised samples [S] float32 -> [frames, blocks, channels] on the CPU."""
        if self._model is None:
            self._model = _load_wav2vec2(self.folder).to(self.device)
        if len(samples) < _LEAST_SAMPLES:
            samples = np.pad(samples, (0, _LEAST_SAMPLES - len(samples)))

        def to_video_rate(_module: nn.Module, _inputs: tuple, maps: Tensor) -> Tensor:
            return nn.functional.interpolate(maps, size=frames, mode="linear", align_corners=True)

        hook = self._model.feature_extractor.register_forward_hook(to_video_rate)
        try:
            values = torch.from_numpy(samples)[None].to(self.device)
            result = self._model(values, output_hidden_states=True)
        finally:
            hook.remove()
        return torch.stack([layer[0] for layer in result.hidden_states[1:]], dim=1).cpu()


class Wav2Vec2Stream:
    """The features of one sound; see `Wav2Vec2FrontEnd.stream`. Those of the stretch used last are kept."""

    def __init__(self, front_end: Wav2Vec2FrontEnd, sound: SampleSource, frames: int) -> None:
        """Measure the sound. InputError: samples that are not finite."""
        self._front_end, self._sound = front_end, sound
        mean_and_deviation = _mean_and_deviation(sound)
        self._mean, self._deviation = mean_and_deviation if front_end.normalises else (0.0, 1.0)
        self._row_samples = front_end.sample_rate_hz / front_end.rate_hz
        natural = math.ceil(len(sound) / self._row_samples)
        self.rows = max(frames, natural)
        self._length = math.ceil(frames * self._row_samples) if frames > natural else len(sound)
        whole = self.rows <= round(WHOLE_S * front_end.rate_hz)
        self._stretch_rows = self.rows if whole else round(STRETCH_S * front_end.rate_hz)
        self._kept: tuple[int, Tensor] | None = None

    def features(self, start: int, stop: int) -> Tensor:  # [stop - start, blocks, channels]
        """See `FeatureStream`. Errors about the weights: see `Wav2Vec2FrontEnd`."""
        check_rows(start, stop, self.rows)
        size = self._stretch_rows
        parts = []
        for number in range(start // size, (stop - 1) // size + 1):
            first = number * size
            parts.append(self._stretch(number)[max(start - first, 0) : stop - first])
        return torch.cat(parts)

    def _stretch(self, number: int) -> Tensor:
        """The rows of one stretch."""
        if self._kept is None or self._kept[0] != number:
            self._kept = None  # not two of them at a time
            start = number * self._stretch_rows
            stop = min(start + self._stretch_rows, self.rows)
            context = round(CONTEXT_S * self._front_end.rate_hz)
            first, last = max(start - context, 0), min(stop + context, self.rows)
            encoded = self._front_end.encode(self._normalised(first, last), last - first)
            self._kept = number, encoded[start - first : stop - first].clone()
        return self._kept[1]

    def _normalised(self, first: int, last: int) -> np.ndarray:
        """The samples of rows first..last - 1, silence behind the end of the sound."""
        start = round(first * self._row_samples)
        stop = self._length if last == self.rows else round(last * self._row_samples)
        samples = (self._sound.read(start, stop) - np.float32(self._mean)) / np.float32(self._deviation)
        return np.pad(samples, (0, stop - start - len(samples)))


def _mean_and_deviation(sound: SampleSource) -> tuple[float, float]:
    """Mean and standard deviation of all samples, with the floor of the published feature extractor."""
    total = squares = 0.0
    for start in range(0, len(sound), BLOCK):
        samples = sound.read(start, start + BLOCK).astype(np.float64)
        total += float(samples.sum())
        squares += float(samples @ samples)
    if not math.isfinite(squares):
        raise finite_only()
    mean = total / max(len(sound), 1)
    variance = max(squares / max(len(sound), 1) - mean**2, 0.0)
    return mean, math.sqrt(variance + _VARIANCE_FLOOR)


def _load_wav2vec2(folder: Path) -> nn.Module:
    """The encoder in evaluation mode, every tensor of it from the folder."""
    try:
        from transformers import Wav2Vec2Config, Wav2Vec2Model
    except ImportError as error:
        raise MissingExtraError(
            "wav2vec2 features need transformers, which is not installed: pip install 'hallo4[released]'"
        ) from error
    check_regular(folder / "model.safetensors", "the weights", CheckpointError)
    try:
        config = read_json(folder / "config.json", dict[str, Any], error=CheckpointError)
        with shapes_alone(len(read_headers([folder / "model.safetensors"]))):  # before memory is taken
            Wav2Vec2Model(Wav2Vec2Config.from_dict(config))
        with _quiet_transformers():
            model, report = Wav2Vec2Model.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # a dozen kinds are raised here, all about this folder
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder}: cannot be read as wav2vec2 ({reason}); expected config.json and model.safetensors"
        ) from error
    # The mask embedding serves pre-training only, and published checkpoints for recognition leave it out.
    missing = sorted(key for key in report["missing_keys"] if key != "masked_spec_embed")
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors are missing, first {missing[0]}; use the whole file"
        )
    return model.eval()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its progress bar and its table of unused tensors; what matters of them is an error here."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
