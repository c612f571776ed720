"""The networks behind published metrics: names, shapes and sizes of the published files, strict loading,
clear errors. Their weights are not here, so numbers cannot be compared; graphs, arithmetic and refusals
can.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hallo4.errors import CheckpointError, InputError, ShapeError
from hallo4.evaluation.measures.fvd import PROTOCOLS, ClipFeatures, clip_starts, resized_224
from hallo4.evaluation.networks.i3d import InceptionI3d, load_i3d_disco, load_i3d_stylegan_v
from hallo4.evaluation.networks.inception import FidInception, load_inception, resized_299
from hallo4.evaluation.networks.lpips import Lpips, load_lpips
from hallo4.sync.network import SyncNet, load_syncnet
from hallo4.weights.catalogue import FILES
from hallo4.weights.published import with_published

PUBLISHED = {
    SyncNet: {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3),
        "netcnnaud.11.weight": (256, 384, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnaud.19.running_var": (512,),
        "netfcaud.0.weight": (512, 512),
        "netfcaud.3.bias": (1024,),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netfclip.3.weight": (1024, 512),
    },
    FidInception: {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_mean": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3_2b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
    },
    InceptionI3d: {
        "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
        "Mixed_3b.b1b.bn.weight": (128,),
        "Mixed_4f.b2b.conv3d.weight": (128, 32, 3, 3, 3),
        "Mixed_5c.b0.conv3d.weight": (384, 832, 1, 1, 1),
        "logits.conv3d.bias": (400,),
    },
    Lpips: {
        "features.0.weight": (64, 3, 11, 11),
        "features.10.bias": (256,),
        "lin0.model.1.weight": (1, 64, 1, 1),
        "lin4.model.1.weight": (1, 256, 1, 1),
    },
}
PARAMETERS = {
    SyncNet: 13_631_616,  # "13.6 M"
    FidInception: 27_161_264 - 3_326_696 + 8 * 2049,  # ImageNet's, without its side branch, with 1008 classes
    InceptionI3d: 12_287_264 + 400 * 1025,  # I3D's trunk and 400 classes
    Lpips: 2_469_696 + 1_152,  # AlexNet's convolutions and a weight for each of their channels
}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {kind: kind().eval() for kind in PUBLISHED}


@pytest.mark.parametrize("kind", PUBLISHED, ids=lambda kind: kind.__name__)
def test_tensors_are_named_and_shaped_as_published(networks, kind):
    state = networks[kind].state_dict()
    assert {name: tuple(state[name].shape) for name in PUBLISHED[kind]} == PUBLISHED[kind]
    assert sum(p.numel() for p in networks[kind].parameters()) == PARAMETERS[kind]


def _saved(network, folder, name):
    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    torch.save(state, folder / FILES[name].path)
    return state


def test_syncnet_loads_strictly_by_name(networks, tmp_path):
    state = _saved(networks[SyncNet], tmp_path, "syncnet")
    loaded = load_syncnet(tmp_path)
    faces, cepstra = torch.rand(2, 3, 5, 224, 224) * 255, torch.randn(2, 1, 13, 20)
    with torch.no_grad():
        assert torch.equal(loaded.embed_faces(faces), networks[SyncNet].embed_faces(faces))
        assert torch.equal(loaded.embed_sound(cepstra), networks[SyncNet].embed_sound(cepstra))
    assert not loaded.training
    assert loaded.embed_sound(cepstra).shape == (2, 1024)
    path = tmp_path / FILES["syncnet"].path
    for change, message in (
        (lambda s: s.pop("netfclip.3.bias"), r"1 missing \(netfclip.3.bias\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda s: s.update({"netfcaud.3.bias": torch.zeros(8)}),
            r"1 mis-shaped \(netfcaud.3.bias \[8\] instead of \[1024\]\)",
        ),
        (lambda s: s["netfcaud.3.bias"].fill_(float("nan")), "netfcaud.3.bias holds NaN"),
    ):
        broken = {key: value.clone() for key, value in state.items()}
        change(broken)
        torch.save(broken, path)
        with pytest.raises(CheckpointError, match=message):
            load_syncnet(tmp_path)
    path.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load_syncnet(tmp_path)
    with pytest.raises(ShapeError, match="224"):
        loaded.embed_faces(torch.rand(1, 3, 5, 112, 112))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Wicked:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"a": Wicked()}, tmp_path / FILES["syncnet"].path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_syncnet(tmp_path)


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (load_syncnet, "syncnet"),
        (load_inception, "inception"),
        (load_i3d_disco, "i3d_disco"),
        (load_i3d_stylegan_v, "i3d_stylegan_v"),
        (load_lpips, "alexnet"),
    ],
)
def test_missing_weights_say_which_file_from_where_and_whither(load, name, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert FILES[name].path in message
    assert str(tmp_path) in message
    assert FILES[name].where in message
    assert "\n" not in message
    monkeypatch.setenv("HALLO4_WEIGHTS", str(tmp_path / "elsewhere"))
    with pytest.raises(CheckpointError, match="elsewhere/metrics"):
        load()


def test_inception_differs_from_the_imagenet_model_in_its_pools(networks):
    network = networks[FidInception]
    ones = torch.ones(1, 1, 4, 4)
    with torch.no_grad():
        x = torch.randn(1, 2048, 4, 4)
        assert network.Mixed_7c.largest
        assert not network.Mixed_7b.largest
        assert not torch.allclose(
            network.Mixed_7c(x)[:, -192:], network.Mixed_7c.branch_pool(F.avg_pool2d(x, 3, 1, 1))
        )
    from hallo4.evaluation.networks.inception import _mean_pool

    assert torch.equal(_mean_pool(ones), ones), "padding does not count"


def test_inception_gives_2048_features_and_takes_bytes_only(networks):
    frames = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
    with torch.no_grad():
        features = networks[FidInception](frames)
    assert features.shape == (2, 2048)
    assert not torch.equal(features[0], features[1])
    with pytest.raises(ShapeError, match="uint8"):
        networks[FidInception](frames.float())


def test_the_kernel_to_299_pixels_counts_from_the_middle_of_pixels():
    ramp = (torch.arange(598) % 256).to(torch.uint8).view(1, 1, 1, -1).expand(1, 3, 598, -1).contiguous()
    half = resized_299(ramp)[0, 0, 0, :100]  # the mean of pixels 2 i and 2 i + 1
    assert half == pytest.approx((np.arange(0, 200, 2) + 0.5) / 127.5 - 1, abs=1e-6)


def test_i3d_halves_time_three_times_and_wants_ten_frames(networks):
    network = networks[InceptionI3d]
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 16, 224, 224)).shape == (1, 400, 1)
    for clip in (torch.zeros(1, 3, 8, 224, 224), torch.zeros(1, 3, 16, 112, 112)):
        with pytest.raises(ShapeError):
            network(clip)


def test_i3d_pads_as_tensorflow_does():
    from hallo4.evaluation.networks.i3d import _same_pad

    x = torch.ones(1, 1, 16, 224, 224)
    padded = _same_pad(x, (7, 7, 7), (2, 2, 2))
    assert padded.shape == (1, 1, 21, 229, 229)
    assert float(padded[0, 0, 2, 2, 2]) == 1, "two in front"
    assert float(padded[0, 0, 1].sum() + padded[0, 0, -3:].sum()) == 0, "three behind"


def test_lpips_is_zero_for_equal_frames_grows_with_noise_and_counts_channels(networks):
    network = with_published(Lpips, {k: v.abs() for k, v in networks[Lpips].state_dict().items()}, "here")
    rng = torch.Generator().manual_seed(0)
    frame, noise = torch.rand(1, 3, 64, 64, generator=rng), torch.randn(1, 3, 64, 64, generator=rng)
    values = [float(network(frame, frame + strength * noise)) for strength in (0, 0.1, 0.3, 1.0)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[1] > 0
    with torch.no_grad():
        for layer in range(5):
            network.get_submodule(f"lin{layer}").model[1].weight.zero_()
    assert float(network(frame, noise)) == 0, "the distance is the weighted sum of its channels"
    with pytest.raises(ShapeError):
        network(frame, frame[..., :32])


def test_lpips_loads_both_files_and_leaves_the_classifier_out(networks, tmp_path, monkeypatch):
    state = networks[Lpips].state_dict()
    convolutions = {name: value for name, value in state.items() if name.startswith("features")}
    monkeypatch.setitem(FILES, "alexnet", replace(FILES["alexnet"], path="alexnet.pth", sha256=None))
    torch.save(convolutions | {"classifier.1.weight": torch.zeros(2)}, tmp_path / "alexnet.pth")
    channels = {name: value for name, value in state.items() if name.startswith("lin")}
    torch.save(channels, tmp_path / FILES["lpips"].path)
    a, b = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_lpips(tmp_path)(a, b), networks[Lpips](a, b))


def test_fvd_protocols_take_other_windows_and_other_kernels():
    assert list(clip_starts(20, PROTOCOLS["disco"])) == [0, 1, 2, 3, 4]
    assert list(clip_starts(40, PROTOCOLS["stylegan-v"])) == [0, 16]
    with pytest.raises(ShapeError, match="16 frames or more; found 15"):
        clip_starts(15, PROTOCOLS["disco"])
    frame = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    small = {name: resized_224(frame, protocol) for name, protocol in PROTOCOLS.items()}
    assert small["disco"].shape == small["stylegan-v"].shape == (3, 224, 224)
    assert small["disco"].std() < 0.95 * small["stylegan-v"].std(), "Pillow's kernel widens when it shrinks"


def test_fvd_features_are_those_of_every_window(monkeypatch):
    protocol = PROTOCOLS["disco"]
    frames = np.arange(22, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 2, 2), np.float32)

    def features_of(extractor):
        clips = ClipFeatures(extractor, protocol)
        for frame in frames:
            clips.add(frame)
        return clips.finish()

    features = features_of(lambda clips: clips.mean(dim=(1, 3, 4)))
    assert features.shape == (7, 16)
    assert features[:, 0].tolist() == list(range(7))
    with pytest.raises(InputError, match="not finite"):
        features_of(lambda clips: clips.mean(dim=(1, 3, 4)) * float("nan"))
