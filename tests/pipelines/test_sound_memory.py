"""Ten minutes of sound take the memory of ten seconds: opened, made into features, written into a video.

Run as a program, this file goes the way of one sound and prints its own peak memory in KiB.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")


def go_the_way_of_a_sound(path: Path, config: dict, folder: Path, video: Path) -> int:
    """Every audio window of the sound, and a video with it, as a request does it; peak memory in KiB."""
    from hallo4.media import VideoWriter
    from hallo4.models.audio_features import audio_front_end_from_config, audio_windows_of
    from hallo4.pipelines.conditions import prepare_audio, prepare_feature_sound
    from hallo4.pipelines.plan import frame_count
    from hallo4.pipelines.session import fingerprint

    front_end = audio_front_end_from_config(config, folder)
    sound, _ = prepare_audio(path)
    frames = frame_count(len(sound), sound.sample_rate_hz)
    stream = front_end.stream(prepare_feature_sound(path, sound, front_end), frames)
    fingerprint({"sound": sound})
    for start in range(0, frames, 80):
        windows = audio_windows_of(stream, np.minimum(np.arange(start, start + 81), frames - 1))
        assert windows.isfinite().all()
    with VideoWriter(video, 16, 16, fps=1.0, audio=sound) as writer:  # few pictures: they take the time
        for _ in range(frames // 25):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    # Not `ru_maxrss`, which begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """{seconds: a file of noise as loud as speech}."""
    import soundfile

    folder, second = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0).normal(0, 0.1, 16000)
    for seconds in (10, 600):
        with soundfile.SoundFile(folder / f"{seconds}.wav", "w", 16000, 1) as file:
            for _ in range(seconds):
                file.write(second)
    return {seconds: folder / f"{seconds}.wav" for seconds in (10, 600)}


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.is_file(), reason="this system does not tell the peak memory of a process")
@pytest.mark.parametrize("kind", ["log_mel", "wav2vec2"])
def test_memory_is_constant_in_the_length_of_the_sound(kind, sounds, tmp_path):
    if kind == "wav2vec2":
        transformers = pytest.importorskip("transformers")
        config = transformers.Wav2Vec2Config(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
            conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, vocab_size=8,
        )  # fmt: skip
        transformers.Wav2Vec2Model(config).save_pretrained(tmp_path / "encoder")
    peaks_kib = {}
    for seconds, path in sounds.items():
        done = subprocess.run(
            [sys.executable, __file__, str(path), kind, str(tmp_path), str(tmp_path / f"{seconds}.mp4")],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        peaks_kib[seconds] = int(done.stdout)
    assert peaks_kib[600] < 1.05 * peaks_kib[10], peaks_kib


if __name__ == "__main__":
    options = {"kind": sys.argv[2]} | ({"path": "encoder"} if sys.argv[2] == "wav2vec2" else {})
    peak_kib = go_the_way_of_a_sound(Path(sys.argv[1]), options, Path(sys.argv[3]), Path(sys.argv[4]))
    sys.stdout.write(f"{peak_kib}\n")
