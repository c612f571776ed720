"""ComfyUI's contract for nodes (its pages "Properties" and "Datatypes"), as a checker of its own.

Nothing of ComfyUI is imported; `Host` is as much of it as nodes may call.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import torch

WIDGETS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
OPTIONS = {
    *("default", "min", "max", "step", "round", "tooltip", "multiline", "control_after_generate"),
    *("label_on", "label_off", "placeholder", "forceInput", "display", "options"),
}


def load_pack(folder: Path) -> ModuleType:
    """Import a node pack as ComfyUI does: its folder as a package under a name made of its path."""
    name = f"custom_nodes_{folder.name}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Interrupted(Exception):
    """What ends a workflow after the stop button."""


class Host:
    """`folder_paths`, `comfy.utils` and `comfy.model_management`, as modules for `sys.modules`."""

    def __init__(self, output: Path) -> None:
        self.stopped, self.bars = False, []
        paths, comfy, utils, management = (
            ModuleType(name) for name in ("folder_paths", "comfy", "comfy.utils", "comfy.model_management")
        )
        paths.get_output_directory = lambda: str(output)
        paths.get_save_image_path = self.free_name
        host = self

        class ProgressBar:
            def __init__(self, total):
                self.total, self.seen = total, []
                host.bars.append(self)

            def update_absolute(self, value, total=None, preview=None):
                self.seen.append((value, total or self.total))

        utils.ProgressBar = ProgressBar
        management.processing_interrupted = lambda: self.stopped
        management.throw_exception_if_processing_interrupted = self.throw
        comfy.utils, comfy.model_management = utils, management
        self.modules = {module.__name__: module for module in (paths, comfy, utils, management)}

    def free_name(self, prefix, output_dir, image_width=0, image_height=0):
        place, stem = str(Path(prefix).parent), Path(prefix).name
        folder = Path(output_dir) / place
        folder.mkdir(parents=True, exist_ok=True)
        taken = [path.name for path in folder.iterdir() if path.name.startswith(f"{stem}_")]
        return str(folder), stem, len(taken) + 1, place, prefix

    def throw(self):
        if self.stopped:
            self.stopped = False
            raise Interrupted


def check_node(node: type) -> None:
    """AssertionError: a class that ComfyUI could not list, validate or call."""
    assert isinstance(node.CATEGORY, str)
    assert node.CATEGORY
    assert isinstance(node.RETURN_TYPES, tuple)
    assert all(isinstance(kind, str) and kind == kind.upper() for kind in node.RETURN_TYPES)
    names = getattr(node, "RETURN_NAMES", node.RETURN_TYPES)
    assert len(names) == len(node.RETURN_TYPES)
    assert isinstance(getattr(node, "OUTPUT_NODE", False), bool)
    assert isinstance(inspect.getattr_static(node, "INPUT_TYPES"), classmethod)
    inputs = node.INPUT_TYPES()
    assert set(inputs) <= {"required", "optional", "hidden"}
    assert "required" in inputs
    for group in ("required", "optional"):
        for name, entry in inputs.get(group, {}).items():
            assert name.isidentifier()
            check_input(entry)
    check_function(node, inputs)
    assert node() is not None, "nodes are made without arguments"


def check_input(entry: tuple) -> None:
    """An input is (type or list of choices, options)."""
    assert isinstance(entry, tuple)
    assert 1 <= len(entry) <= 2
    kind, options = entry[0], entry[1] if len(entry) > 1 else {}
    assert set(options) <= OPTIONS
    if isinstance(kind, list):
        assert kind
        assert all(isinstance(choice, str) for choice in kind)
        assert options.get("default", kind[0]) in kind
        return
    assert isinstance(kind, str)
    assert kind == kind.upper()
    if kind in WIDGETS:
        default = options["default"]
        assert type(default) is WIDGETS[kind]
        if kind in ("INT", "FLOAT"):
            assert options["min"] <= default <= options["max"]
            assert options["max"] <= 2**64 - 1


def check_function(node: type, inputs: dict) -> None:
    """It is called with all required inputs by name, and with those optional ones that are there."""
    required, optional = inputs["required"], inputs.get("optional", {})
    function = inspect.signature(getattr(node, node.FUNCTION))
    given = dict.fromkeys([*required, *inputs.get("hidden", {})])
    function.bind(None, **given)
    function.bind(None, **given, **dict.fromkeys(optional))
    taken = set(list(function.parameters)[1:])
    assert taken == {*given, *optional}, "an input that is not used, or one that cannot be given"
    if hasattr(node, "VALIDATE_INPUTS"):
        assert set(inspect.signature(node.VALIDATE_INPUTS).parameters) <= {*required, *optional}


def run(node: type, **inputs):
    """Call a node as the executor does, and return its outputs, each checked to be of its type."""
    with torch.inference_mode():
        found = getattr(node(), node.FUNCTION)(**inputs)
    if isinstance(found, dict):
        assert set(found) <= {"ui", "result"}
        assert all(isinstance(values, list | tuple) for values in found["ui"].values()), "they are joined"
        found = found["result"]
    assert isinstance(found, tuple)
    assert len(found) == len(node.RETURN_TYPES)
    for kind, value in zip(node.RETURN_TYPES, found, strict=True):
        check_value(kind, value)
    return found


def check_value(kind: str, value: object) -> None:
    """A value is what its type promises to the next node."""
    if kind == "IMAGE":
        assert value.dtype == torch.float32
        assert value.ndim == 4
        assert value.shape[-1] == 3
        assert value.min() >= 0
        assert value.max() <= 1
    elif kind == "AUDIO":
        assert set(value) == {"waveform", "sample_rate"}
        assert value["waveform"].ndim == 3
        assert isinstance(value["sample_rate"], int)
    elif kind in WIDGETS:
        assert isinstance(value, WIDGETS[kind])
