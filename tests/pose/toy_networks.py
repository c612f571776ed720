"""Small ONNX graphs with the inputs and outputs of DWPose's, whose answers can be said in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DETECTOR_FILE, POSE_FILE = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
ANCHORS = 8400
POSE_SIZE_PX = (288, 384)


def yolox_rows(people: list[tuple[tuple[float, float, float, float], float]]) -> np.ndarray:
    """Raw rows [8400, 85] that say: people of these boxes, in pixels of the 640 x 640 picture, and scores.

    Every box is said by the anchor in whose cell its centre lies, of stride 8.
    """
    rows = np.zeros((ANCHORS, 85), np.float32)
    for (left, top, right, bottom), score in people:
        x, y = (left + right) / 2 / 8, (top + bottom) / 2 / 8
        anchor = int(y) * 80 + int(x)
        size = np.log([(right - left) / 8, (bottom - top) / 8])
        rows[anchor, :6] = [x - int(x), y - int(y), *size, 1.0, score]
    return rows


def save_detector(folder: Path, rows: np.ndarray, size_px: int = 640) -> None:
    """A detector that says the same of every picture that is not almost black."""
    places = np.argwhere(rows != 0)
    values = rows[rows != 0]
    zeros = np.zeros((1, 85), np.float32)
    constants = {
        "anchors": np.array([len(rows), 1], np.int64),
        "zeros": zeros,
        "places": places.astype(np.int64),
        "values": values.astype(np.float32),
        "first": np.array([0], np.int64),
        "low": np.float32(50.0),
    }
    nodes = [
        helper.make_node("Tile", ["zeros", "anchors"], ["empty"]),
        helper.make_node("ScatterND", ["empty", "places", "values"], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", "first"], ["batch"]),
        # Grey of 114 fills half of the toy videos' picture; their frames are brighter than 50 in the mean.
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "low"], ["is_lit"]),
        helper.make_node("Cast", ["is_lit"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["batch", "factor"], ["output"]),
    ]
    inputs = {"images": [1, 3, size_px, size_px]}
    _save(folder / DETECTOR_FILE, nodes, constants, inputs, {"output": [1, len(rows), 85]})


def save_pose(folder: Path, points: int = 133) -> None:
    """A pose network whose point 0 is the brightest column and row of the red channel, and whose point k lies
    in bins 4 k and 5 k, with heights 0.9 and 0.8. Red is scaled so that level 255 has the height 1."""
    width, height = POSE_SIZE_PX
    bins = {
        "x": np.zeros((points - 1, 2 * width), np.float32),
        "y": np.zeros((points - 1, 2 * height), np.float32),
    }
    for k in range(1, points):
        bins["x"][k - 1, 4 * k], bins["y"][k - 1, 5 * k] = 0.9, 0.8
    constants = {
        "rest_x": bins["x"][None],
        "rest_y": bins["y"][None],
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "channel": np.array([1], np.int64),
        "twice": np.array([1, 1, 2], np.int64),
        "flat_x": np.array([1, 1, 2 * width], np.int64),
        "flat_y": np.array([1, 1, 2 * height], np.int64),
        "last": np.array([-1], np.int64),
        "gain": np.float32(58.395 / 255),
        "offset": np.float32(123.675 / 255),
    }
    nodes = [
        helper.make_node("Slice", ["input", "zero", "one", "channel"], ["raw"]),
        helper.make_node("Mul", ["raw", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["red"]),
    ]
    for axis, across, flat in (("x", 2, "flat_x"), ("y", 3, "flat_y")):
        nodes += [
            helper.make_node("ReduceMax", ["red"], [f"profile_{axis}"], axes=[across], keepdims=0),
            helper.make_node("Unsqueeze", [f"profile_{axis}", "last"], [f"column_{axis}"]),
            helper.make_node("Squeeze", [f"column_{axis}", "one"], [f"thin_{axis}"]),
            helper.make_node("Tile", [f"thin_{axis}", "twice"], [f"double_{axis}"]),
            helper.make_node("Reshape", [f"double_{axis}", flat], [f"first_{axis}"]),
            helper.make_node("Concat", [f"first_{axis}", f"rest_{axis}"], [f"simcc_{axis}"], axis=1),
        ]
    outputs = {"simcc_x": [1, points, 2 * width], "simcc_y": [1, points, 2 * height]}
    _save(folder / POSE_FILE, nodes, constants, {"input": [1, 3, height, width]}, outputs)


def _save(path: Path, nodes: list, constants: dict, inputs: dict, outputs: dict) -> None:
    def described(shapes):
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
        ]

    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", described(inputs), described(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
