"""The text encoder of a model folder on this machine: seconds and memory of the two released prompts.

`python benchmarks/text_encoder.py TEXT_FOLDER` prints one JSON line:

* `stored_gb`; `tokens` of each prompt; `largest` absolute value of the embeddings;
* `import_s` of transformers, `identity_s`, `load_s`, and `encode_s` of both prompts at once; each also in
  seconds of processor time (`_cpu_s`), which other work on the machine changes less;
* `peak_private_mib`, `before_private_mib`: memory that must be there (RssAnon), the largest and that before
  the encoder; `peak_mapped_mib`: pages of files (RssFile), which the system can take back at any time.

`--make --tokenizer FOLDER` only writes TEXT_FOLDER, which must not exist: an encoder of the size of umT5-xxl
(11.4 GB) with random weights in bf16 and that tokenizer. Remove it afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
from pathlib import Path

import torch

PROMPTS = (
    "a person is talking",
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"
    "杂乱的背景，三条腿，背景人很多，倒着走",
)
"""The prompt and the negative prompt that the released program takes by default."""
XXL = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
FREE_GB = 30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--tokenizer", type=Path)
    return parser.parse_args()


def make(folder: Path, tokenizer: Path) -> None:
    """A folder of the size of umT5-xxl, its weights written tensor by tensor."""
    from transformers import UMT5Config, UMT5EncoderModel

    if shutil.disk_usage(folder.parent).free < FREE_GB * 1e9:
        sys.exit(f"{folder.parent}: less than {FREE_GB} GB are free; make room first.")
    shutil.copytree(tokenizer, folder / "tokenizer", copy_function=shutil.copyfile)
    (folder / "config.json").write_text(json.dumps({"model_type": "umt5", **XXL}, indent=2))
    with torch.device("meta"):
        state = UMT5EncoderModel(UMT5Config(**XXL)).state_dict()
    del state["encoder.embed_tokens.weight"]
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in state.items():
        start, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = torch.randn(1 << 24, generator=torch.Generator().manual_seed(0))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in state.values():
            left = tensor.numel()
            values = torch.ones(left) if tensor.ndim == 1 else noise * tensor.shape[-1] ** -0.5
            data = values.bfloat16().view(torch.uint8).numpy()
            while left:  # the same values again, which cost no time to draw
                count = min(left, len(values))
                file.write(data[: 2 * count])
                left -= count


def memory_mib() -> dict[str, float]:
    """Private (RssAnon) and mapped (RssFile) resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
    return {"private": sizes["RssAnon"], "mapped": sizes["RssFile"]}


class Peaks:
    """The largest memory while the block runs, looked at every 10 ms."""

    def __enter__(self) -> Peaks:
        self.mib, self._stop = memory_mib(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.mib = {kind: max(self.mib[kind], now) for kind, now in memory_mib().items()}


def main() -> None:
    options = arguments()
    figures: dict[str, object] = {"threads": torch.get_num_threads()}
    started, cpu_started = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal started, cpu_started
        figures[f"{name}_s"], started = round(time.perf_counter() - started, 2), time.perf_counter()
        figures[f"{name}_cpu_s"], cpu_started = (
            round(time.process_time() - cpu_started, 2),
            time.process_time(),
        )

    if options.make:
        if options.folder.exists() or options.tokenizer is None:
            sys.exit("--make takes a new folder and --tokenizer, the folder of a tokenizer.")
        make(options.folder, options.tokenizer)
        return
    import ftfy  # noqa: F401
    import tokenizers  # noqa: F401
    from transformers import UMT5EncoderModel  # noqa: F401

    from hallo4.models.text_encoder import UMT5TextEncoder, encoder_identity

    lap("import")
    figures["before_private_mib"] = round(memory_mib()["private"])
    with Peaks() as peaks:
        encoder_identity(options.folder)
        lap("identity")
        encoder = UMT5TextEncoder(options.folder)
        lap("load")
        embeddings = encoder.encode_all(PROMPTS)
        lap("encode")
    files = list(options.folder.glob("*.safetensors"))
    figures |= {
        "stored_gb": round(sum(file.stat().st_size for file in files) / 1e9, 2),
        "tokens": [len(embedding) for embedding in embeddings],
        "largest": round(max(float(embedding.abs().max()) for embedding in embeddings), 3),
        "peak_private_mib": round(peaks.mib["private"]),
        "peak_mapped_mib": round(peaks.mib["mapped"]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
