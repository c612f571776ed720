"""Every file that comes from elsewhere, once: what it is for, who publishes it where and under which terms,
its size and SHA-256 where they are known, and where it goes.

Nothing of it is shipped or fetched unasked. What is not known is None and is shown as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from hallo4.errors import InputError


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the Hugging Face hub."""

    repository: str
    path: str

    @property
    def page(self) -> str:
        """The repository's page, where its terms stand."""
        return f"huggingface.co/{self.repository}"


@dataclass(frozen=True)
class WebFile:
    """A file on a plain web server."""

    url: str


@dataclass(frozen=True)
class PackedFile:
    """The file `member` inside a .tgz on a plain web server, such as a package of npm."""

    url: str
    member: str


Source = HubFile | WebFile | PackedFile
"""Where a file is published."""


@dataclass(frozen=True)
class WeightFile:
    """One file. `path`, relative and with forward slashes, is where it goes inside `folder`, which is a
    folder inside the root of all weights (`hallo4.weights.weights_root`).

    sources: tried in this order by `hallo4 weights fetch`; several may publish the same file, or one
        repository may hold it under another suffix, which it keeps. Empty: only a person can get it.
    by_hand: where a person finds it, if `sources` do not say it.
    size_bytes, sha256: of the published file, 64 hexadecimal digits, or the first 8 where its own name
        carries them (the convention of torch.hub); None: not known.
    extra: the extra of this package that runs it; None: a plain installation does.
    """

    name: str
    folder: str
    path: str
    purpose: str
    terms: str
    sources: tuple[Source, ...] = ()
    by_hand: str = ""
    size_bytes: int | None = None
    sha256: str | None = None
    extra: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` first, then the same with the suffixes under which the sources publish it."""
        return tuple(dict.fromkeys((self.path, *map(self.path_from, self.sources))))

    def path_from(self, source: Source) -> str:
        """Where the file of this source goes: `path` with the suffix that the source gives it."""
        published = source.path if isinstance(source, HubFile) else source.url
        if isinstance(source, PackedFile):
            published = source.member
        return str(PurePosixPath(self.path).with_suffix(PurePosixPath(published).suffix))

    @property
    def where(self) -> str:
        """Where it is published, in words, each place once."""
        places = [s.page if isinstance(s, HubFile) else s.url for s in self.sources]
        return " or ".join(dict.fromkeys([*places, *([self.by_hand] if self.by_hand else [])]))


@dataclass(frozen=True)
class Bundle:
    """Files that serve one purpose together."""

    name: str
    purpose: str
    files: tuple[WeightFile, ...]


HALLO4 = "fudan-generative-ai/hallo4"
WAN = "Wan-AI/Wan2.1-T2V-1.3B"
WAV2VEC2 = "facebook/wav2vec2-base-960h"
DWPOSE = "yzd-v/DWPose"
_RELEASED = "pretrained_models"  # the released program's own name for its folder
_HALLO4_TERMS = "those of its page; access may have to be asked for there"
_ENCODERS = "Wan2.1_Encoders"


def _wan(name: str, path: str, purpose: str, extra: str | None = None, **known: int | str) -> WeightFile:
    """A file that Wan2.1 publishes and the Hallo4 release repeats in its folder of encoders."""
    place = f"{_ENCODERS}/{path}"
    sources = (HubFile(WAN, path), HubFile(HALLO4, place))
    return WeightFile(name, _RELEASED, place, purpose, "Apache-2.0", sources, extra=extra, **known)


def _wav2vec2(name: str, file: str, purpose: str, **known: int | str) -> WeightFile:
    place = f"wav2vec/wav2vec2-base-960h/{file}"
    sources = (HubFile(WAV2VEC2, file), HubFile(HALLO4, place))
    return WeightFile(name, _RELEASED, place, purpose, "Apache-2.0", sources, extra="released", **known)


def _separator(file: str, purpose: str, **known: int | str) -> WeightFile:
    place = f"audio_separator/{file}"
    terms = "those of the hallo4 page; the voice separator is of Ultimate Vocal Remover"
    return WeightFile(
        PurePosixPath(file).stem, _RELEASED, place, purpose, terms, (HubFile(HALLO4, place),), **known
    )


def _metric(
    name: str, path: str, purpose: str, terms: str, *sources: Source, **more: int | str
) -> WeightFile:
    return WeightFile(name, "metrics", path, purpose, terms, sources, **more)


_HOLISTIC = "@mediapipe/holistic@0.5.1675471629"
_HOLISTIC_PACKAGE = "https://registry.npmjs.org/@mediapipe/holistic/-/holistic-0.5.1675471629.tgz"


def _holistic(name: str, file: str, purpose: str, size_bytes: int, sha256: str) -> WeightFile:
    """A file of MediaPipe's holistic landmarker for browsers, a package that has not changed since 2023."""
    sources = (
        WebFile(f"https://cdn.jsdelivr.net/npm/{_HOLISTIC}/{file}"),
        WebFile(f"https://unpkg.com/{_HOLISTIC}/{file}"),
        PackedFile(_HOLISTIC_PACKAGE, f"package/{file}"),
    )
    known = {"size_bytes": size_bytes, "sha256": sha256}
    return WeightFile(name, "pose", file, purpose, "Apache-2.0", sources, extra="pose", **known)


def _dwpose(name: str, file: str, purpose: str) -> WeightFile:
    return WeightFile(name, "pose", file, purpose, "Apache-2.0", (HubFile(DWPOSE, file),), extra="pose")


_TOKENIZER = "tokenizer of the text encoder"
_SOUND = "sound encoder"
_LATENT_SYNC = "ByteDance/LatentSync-1.5"

BUNDLES: dict[str, Bundle] = {
    bundle.name: bundle
    for bundle in (
        Bundle(
            "hallo4",
            "the released full-size model, laid out as its own program wants it",
            (
                WeightFile(
                    "hallo4-dit",
                    _RELEASED,
                    "hallo4/model_weight.pth",
                    "the Hallo4 diffusion transformer",
                    _HALLO4_TERMS,
                    tuple(
                        HubFile(HALLO4, f"hallo4/model_weight.{s}") for s in ("pth", "ckpt", "safetensors")
                    ),
                ),
                _wan(
                    "wan-vae",
                    "Wan2.1_VAE.pth",
                    "video autoencoder",
                    size_bytes=507_609_880,
                    sha256="38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
                ),
                _wan(
                    "umt5",
                    "models_t5_umt5-xxl-enc-bf16.pth",
                    "text encoder",
                    "released",
                    size_bytes=11_361_920_418,
                    sha256="7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d",
                ),
                # The text-to-video repository: the released program refuses the config of the VACE one.
                _wan("wan-config", "config.json", "sizes of the transformer"),
                _wan(
                    "umt5-spiece",
                    "google/umt5-xxl/spiece.model",
                    _TOKENIZER,
                    "released",
                    size_bytes=4_548_313,
                    sha256="e3909a67b780650b35cf529ac782ad2b6b26e6d1f849d3fbb6a872905f452458",
                ),
                _wan(
                    "umt5-tokenizer",
                    "google/umt5-xxl/tokenizer.json",
                    _TOKENIZER,
                    "released",
                    size_bytes=16_837_417,
                    sha256="6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b",
                ),
                _wan(
                    "umt5-tokenizer-config",
                    "google/umt5-xxl/tokenizer_config.json",
                    _TOKENIZER,
                    "released",
                ),
                _wan(
                    "umt5-special-tokens",
                    "google/umt5-xxl/special_tokens_map.json",
                    _TOKENIZER,
                    "released",
                ),
                _wav2vec2(
                    "wav2vec2",
                    "model.safetensors",
                    _SOUND,
                    size_bytes=377_607_901,
                    sha256="8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a",
                ),
                _wav2vec2("wav2vec2-config", "config.json", _SOUND),
                _wav2vec2("wav2vec2-preprocessor", "preprocessor_config.json", _SOUND),
                _wav2vec2("wav2vec2-extractor", "feature_extractor_config.json", f"{_SOUND}, as released"),
                _wav2vec2("wav2vec2-special-tokens", "special_tokens_map.json", f"{_SOUND}, as released"),
                _wav2vec2("wav2vec2-tokenizer", "tokenizer_config.json", f"{_SOUND}, as released"),
                _wav2vec2("wav2vec2-vocabulary", "vocab.json", f"{_SOUND}, as released"),
            ),
        ),
        Bundle(
            "voice-separator",
            "what the released program separates voices from music with; this package does not run it",
            (
                _separator(
                    "Kim_Vocal_2.onnx",
                    "voice separator",
                    size_bytes=66_759_214,
                    sha256="ce74ef3b6a6024ce44211a07be9cf8bc6d87728cc852a68ab34eb8e58cde9c8b",
                ),
                _separator("download_checks.json", "settings of the voice separator"),
                _separator("mdx_model_data.json", "settings of the voice separator"),
                _separator("vr_model_data.json", "settings of the voice separator"),
            ),
        ),
        Bundle(
            "pose-light",
            "people in pictures and videos, on one processor core",
            (
                _holistic(
                    "holistic-networks",
                    "holistic_solution_packed_assets.data",
                    "finding face, hands and body, and measuring face and hands",
                    16_877_755,
                    "743ef881d77fb8fb8e831bd49e72e97c2ad5560803c76617157ccfcfebc5ca9d",
                ),
                _holistic(
                    "pose-landmark-full",
                    "pose_landmark_full.tflite",
                    "measuring the body",
                    6_440_512,
                    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
                ),
            ),
        ),
        Bundle(
            "pose-dwpose",
            "people in pictures and videos, as the released model was trained with",
            (
                _dwpose("yolox", "yolox_l.onnx", "finding people"),
                _dwpose("dwpose", "dw-ll_ucoco_384.onnx", "measuring the whole body"),
            ),
        ),
        Bundle(
            "metrics",
            "networks behind the published metrics of `hallo4 evaluate videos`",
            (
                _metric(
                    "syncnet",
                    "syncnet_v2.model",
                    "Sync-C, Sync-D and offset",
                    "code MIT",
                    HubFile(_LATENT_SYNC, "auxiliary/syncnet_v2.model"),
                    by_hand="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/",
                ),
                _metric(
                    "inception",
                    "pt_inception-2015-12-05-6726825d.pth",
                    "FID and KID",
                    "Apache-2.0",
                    WebFile(
                        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                        "pt_inception-2015-12-05-6726825d.pth"
                    ),
                    size_bytes=95_628_359,
                    sha256="6726825d",
                ),
                _metric(
                    "i3d_disco",
                    "i3d_pretrained_400.pt",
                    "FVD, protocol disco",
                    "see there",
                    by_hand="github.com/Wangt-CN/DisCo",
                ),
                _metric(
                    "i3d_stylegan_v",
                    "i3d_torchscript.pt",
                    "FVD, protocol stylegan-v",
                    "see there",
                    HubFile("flateon/FVD-I3D-torchscript", "i3d_torchscript.pt"),
                    HubFile(_LATENT_SYNC, "auxiliary/i3d_torchscript.pt"),
                ),
                _metric(
                    "alexnet",
                    "alexnet-owt-7be5be79.pth",
                    "LPIPS",
                    "BSD-3",
                    by_hand="download.pytorch.org/models",
                    sha256="7be5be79",
                ),
                _metric(
                    "lpips",
                    "alex.pth",
                    "LPIPS",
                    "BSD-2",
                    by_hand="lpips/weights/v0.1 of github.com/richzhang/PerceptualSimilarity",
                ),
                _metric(
                    "arcface",
                    "w600k_r50.onnx",
                    "CSIM",
                    "non-commercial research only",
                    by_hand="model pack buffalo_l of github.com/deepinsight/insightface",
                    extra="identity",
                ),
            ),
        ),
    )
}
"""Every bundle by its name."""

FILES: dict[str, WeightFile] = {file.name: file for bundle in BUNDLES.values() for file in bundle.files}
"""Every file by its short name."""


def files_named(name: str) -> tuple[WeightFile, ...]:
    """The files of a bundle, or the one file of this short name. InputError: there is no such name."""
    if name in BUNDLES:
        return BUNDLES[name].files
    if name in FILES:
        return (FILES[name],)
    raise InputError(
        f"{name!r} is no bundle or file of the catalogue; bundles are {', '.join(BUNDLES)}. "
        "See hallo4 weights list."
    )
