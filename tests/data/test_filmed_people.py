"""A film of a real person, without keypoints beside it: the light estimator finds them."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "pose"))
