"""How weights come to where they are used: from the file to their type and place (`WeightRules`), parts that
take turns, blocks that come one by one, and blocks that are kept in one number format and used in another.
`placement.py` decides which of these when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hallo4.errors import MissingExtraError
from hallo4.models.precision import final_dtype, has_bf16_units
from hallo4.pipelines.placement import Placement
from hallo4.weights.module_folder import StoredTensors

CPU = torch.device("cpu")


@dataclass(frozen=True)
class WeightRules:
    """Where weights are kept and in which type, and where and in which type they are used.

    `asked_dtype`: of weights and products; None: bfloat16 on CUDA, else float32, with products in bf16 on a
    CPU that has units for them. A CPU without keeps bf16 weights of blocks, but multiplies in fp32.
    `scarce`: parts that stay in fp32 only where memory allows it do not.
    """

    device: torch.device = CPU
    asked_dtype: torch.dtype | None = torch.float32
    placement: Placement = "resident"
    scarce: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type in which weights are kept, where the file does not decide."""
        return self.asked_dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)

    @property
    def autocast(self) -> bool:
        """Whether products run in bf16, whatever the weights are, on a CPU with units for it."""
        return self.asked_dtype is None

    @property
    def products(self) -> torch.dtype:
        """The type that products run in where there is no autocast."""
        return torch.float32 if self._on_cpu and not has_bf16_units() else self.dtype

    @property
    def _on_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def blocks_stay_in_files(self) -> bool:
        """Whether blocks are read from their file for each use."""
        return self._on_cpu and self.placement == "stream"

    def placing(self, module: nn.Module) -> Callable[[str, Tensor], Tensor]:
        """(name, tensor of the file) -> the tensor where and as it is kept; see `load_strictly`.

        Of what stays in its file only the shape and type are kept; its values read as NaN, but in use.
        """
        home = self.device if self.placement == "resident" else CPU
        of_blocks = names_in_blocks(module)

        def place(name: str, tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor.to(home)
            if self.blocks_stay_in_files and name in of_blocks:
                return tensor.new_full((), torch.nan).expand(tensor.shape)
            return tensor.to(
                home, self.used_dtype(module, name, self.dtype if name in of_blocks else self.products)
            )

        return place

    def used_dtype(self, module: nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
        """The type of a tensor of a part that is used in `dtype`; see `final_dtype`."""
        return final_dtype(module, name, dtype, self.scarce)

    def settle(self, backbone: nn.Module, autoencoder: nn.Module, files: StoredTensors) -> OneAtATime | None:
        """Install what brings weights to their use; the parts that take turns, if there are any.

        `files` hold the backbone; they must stay where blocks stay in them.
        """
        if self.blocks_stay_in_files or (self._on_cpu and not (self.autocast and has_bf16_units())):
            for path, block in blocks_of(backbone).items():
                names = [name for name, _ in (*block.named_parameters(), *block.named_buffers())]
                dtypes = {name: final_dtype(backbone, f"{path}.{name}", self.products) for name in names}
                cast_in_use(block, dtypes, _reader(files, path) if self.blocks_stay_in_files else None)
        if self.placement == "resident" or self.blocks_stay_in_files:
            return None
        parts = {"autoencoder": autoencoder}
        if self.placement == "offload":
            parts["backbone"] = backbone
        else:
            stream_blocks(backbone, self.device)
        return OneAtATime(parts, lambda tensor: tensor.to(self.device))


class OneAtATime:
    """Parts of a model of which at most one has its weights on the device; the others wait at home.

    Weights never change, so going home costs nothing: what was on the device is dropped.
    """

    def __init__(self, parts: Mapping[str, nn.Module], to_device: Callable[[Tensor], Tensor]) -> None:
        """`parts`: name -> module, whose tensors are at home now; `to_device` copies one to the device."""
        self._to_device = to_device
        self._homes = {name: _named_tensors(part) for name, part in parts.items()}
        self._here: str | None = None

    def bring(self, name: str) -> None:
        """Make `name` the part on the device; with a name of none of them, all wait at home."""
        if name == self._here:
            return
        for owner, leaf, home in self._homes.get(self._here or "", ()):
            _put(owner, leaf, home)
        for owner, leaf, home in self._homes.get(name, ()):
            _put(owner, leaf, self._to_device(home))
        self._here = name


def blocks_of(backbone: nn.Module) -> dict[str, nn.Module]:
    """Name -> the blocks that a backbone is a stack of: the outermost modules of `_no_split_modules`."""
    kinds = set(getattr(backbone, "_no_split_modules", None) or ())
    found: dict[str, nn.Module] = {}
    for name, module in backbone.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        if type(module).__name__ in kinds and not inside:
            found[name] = module
    return found


def place_all(module: nn.Module, place: Callable[[str, Tensor], Tensor]) -> None:
    """Bring every tensor of a module to its type and place, one after the other."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        tensor.data = place(name, tensor.data)


def names_in_blocks(module: nn.Module) -> set[str]:
    """Names of all parameters and buffers of the blocks of a backbone."""
    return {
        f"{path}.{name}"
        for path, block in blocks_of(module).items()
        for name, _ in (*block.named_parameters(), *block.named_buffers())
    }


def stream_blocks(backbone: nn.Module, device: torch.device) -> None:
    """From now on every block of `backbone` comes to `device` for its own forward, the next one meanwhile.

    diffusers' group offloading; on CUDA with a stream of its own, from pinned memory. MissingExtraError:
    diffusers needs accelerate for it.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "Streaming a model through a small device needs accelerate, which is not installed: "
            "pip install 'hallo4[released]'."
        ) from error
    from diffusers.hooks import apply_group_offloading

    names = blocks_of(backbone)
    nested = [
        name
        for name, child in backbone.named_children()
        if not isinstance(child, nn.ModuleList) and any(block.startswith(f"{name}.") for block in names)
    ]
    apply_group_offloading(
        backbone,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        block_modules=nested or None,
    )


ReadTensors = Callable[[Sequence[str]], Mapping[str, Tensor]]


def cast_in_use(
    module: nn.Module, dtypes: Mapping[str, torch.dtype], read: ReadTensors | None = None
) -> None:
    """From now on the forward of `module` sees its tensors in the types `dtypes` (by name in it).

    Their values are what the module holds, in another type, or, with `read`, what that gives for their names
    at each forward. The same numbers as if all had been cast for good.
    """
    kept = {
        name: (tensor, tensor.data)
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
        if tensor.dtype != dtypes[name] or (read is not None and tensor.is_floating_point())
    }

    def before(_module: nn.Module, _inputs: tuple) -> None:
        values = {name: value for name, (_, value) in kept.items()} if read is None else read(list(kept))
        for name, (tensor, _) in kept.items():
            tensor.data = values[name].to(dtypes[name])

    def after(_module: nn.Module, _inputs: tuple, _output: object) -> None:
        for tensor, value in kept.values():
            tensor.data = value

    if kept:
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after, always_call=True)


def _reader(files: StoredTensors, path: str) -> ReadTensors:
    """Reads tensors of the module at `path` by their names in it."""

    def read(names: Sequence[str]) -> dict[str, Tensor]:
        found = files.read([f"{path}.{name}" for name in names])
        return {name: found[f"{path}.{name}"] for name in names}

    return read


def _named_tensors(part: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """(module, name in it, value) of every parameter and buffer."""
    return [
        (module, name, tensor.data)
        for module in part.modules()
        for name, tensor in (
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        )
    ]


def _put(owner: nn.Module, name: str, value: Tensor) -> None:
    """Give a parameter or buffer another value, as `nn.Module.to` does: the object stays the same where the
    two kinds of tensors allow it."""
    tensor = getattr(owner, name)
    if torch._has_compatible_shallow_copy_type(tensor, value):
        tensor.data = value
    else:
        setattr(owner, name, nn.Parameter(value, False) if isinstance(tensor, nn.Parameter) else value)
