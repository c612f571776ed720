"""A process that is forked after a model was used can use it too."""

import subprocess
import sys

import pytest
import torch

from hallo4.errors import InputError
from hallo4.pipelines import devices

FORK = """
import multiprocessing, sys
import numpy as np
from hallo4.pipelines import PortraitAnimator
from hallo4.types import Audio

animator = PortraitAnimator.from_pretrained(sys.argv[1])
image, sound = np.zeros((32, 32, 3), np.uint8), Audio(np.zeros(3200, np.float32), 16000)

def frames(seed):
    return sum(map(len, animator.frames(image, sound, seed=seed)))

print(frames(0), flush=True)
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply_async(frames, [1]).get(timeout=60))
"""


def test_a_forked_process_makes_videos_with_one_thread(tiny_model_folder):
    """With more threads it would wait for those that the fork left behind."""
    made = subprocess.run(
        [sys.executable, "-c", FORK, str(tiny_model_folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"OMP_NUM_THREADS": "2", "PATH": "/usr/bin:/bin"},
    )
    assert made.stdout == "5\n5\n", made.stderr


def test_a_gpu_in_a_forked_process_is_refused(monkeypatch):
    devices.check_not_forked(torch.device("cuda", 0))
    monkeypatch.setattr(devices, "_forked", True)
    devices.check_not_forked(torch.device("cpu"))
    with pytest.raises(InputError, match="forked from one that had a model on cuda:0"):
        devices.check_not_forked(torch.device("cuda", 0))
