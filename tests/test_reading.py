"""What is read is read one way: by `input_file`, `json_file` and the readers that stand on them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hallo4"

READERS = {
    *("json.load", "json.loads", "np.load", "np.fromfile", "np.memmap", "torch.load", "pickle.load"),
    *("pickle.loads", "read_text", "read_bytes", "safe_open", "load_file", "SoundFile", "soundfile.read"),
    *("ParquetFile", "read_table", "ZipFile", "tarfile.open", "Image.open", "av.open", "os.open"),
    *("from_pretrained", "from_file", "InferenceSession", "SentencePieceProcessor"),
    *("tyro.cli", "subcommand_cli_from_dict"),
}
"""Calls that take a file, a text or words at their word: by their last name, or with the module before it."""
OPEN = "open"
"""`open(path)` and `path.open()` that read; those that write are named by their mode."""

MAY = {
    "hallo4/input_file.py": {"os.open": "the one place where files are opened"},
    "hallo4/json_file.py": {"json.loads": "the one reader of JSON"},
    "hallo4/cli/options.py": {
        "tyro.cli": "the one parser of words",
        "subcommand_cli_from_dict": "the one parser of words",
    },
    "hallo4/cli/front_door.py": {"os.open": "the null device, to write to"},
    "hallo4/engine/stage.py": {"pickle.loads": "what a process of the same run has sent"},
    "hallo4/engine/scheduler.py": {"pickle.loads": "what a process of the same run has sent"},
    "hallo4/data/clips.py": {"np.load": "after `check_regular`"},
    "hallo4/data/sounds.py": {"np.load": "of an `open_input`"},
    "hallo4/data/index.py": {"read_table": "that of `media/parquet_files.py`"},
    "hallo4/data/stages.py": {"np.load": "of an `open_input`"},
    "hallo4/data/contact_sheet.py": {"read_text": "a page of the package"},
    "hallo4/whole.py": {"os.open": "a folder, to flush it", "open": "what was just written, to flush it"},
    "hallo4/recipes/recipe.py": {"json.loads": "of a text made in the same line"},
    "hallo4/media/files.py": {"av.open": "`open_media`, after `check_input`"},
    "hallo4/media/encoder.py": {"av.open": "writes"},
    "hallo4/media/image.py": {"Image.open": "of an `open_input`"},
    "hallo4/media/provenance.py": {
        "Image.open": "of an `open_input`",
        "open": "a video of ours that is being written",
        "read_bytes": "a video of ours that is being written",
    },
    "hallo4/media/parquet_files.py": {"ParquetFile": "of an `open_input`; `read_table` is what others call"},
    "hallo4/media/sound_track.py": {"SoundFile": "of an `open_input`"},
    "hallo4/motion/files.py": {"np.load": "of an `open_input`", "ZipFile": "of an `open_input`"},
    "hallo4/weights/tensors.py": {
        "safe_open": "`open_safetensors`, after `check_regular`",
        "load_file": "after `open_input` has seen it",
        "torch.load": "after `open_input` has seen it; tensors only",
    },
    "hallo4/weights/onnx_session.py": {"InferenceSession": "after `check_regular`"},
    "hallo4/weights/fetch.py": {"tarfile.open": "of an `open_input`"},
    "hallo4/models/wav2vec2.py": {"from_pretrained": "after `check_regular`; local files, safetensors only"},
    "hallo4/models/text_encoder.py": {
        "from_file": "after `check_regular`",
        "SentencePieceProcessor": "after `check_regular`",
    },
    "hallo4/pipelines/released_plans.py": {"from_file": "after `check_regular`"},
    "hallo4/pipelines/placement.py": {"open": "what the system says of its memory"},
    "hallo4/preference/database.py": {"read_text": "what the system says of its disks"},
    "hallo4/preference/parquet.py": {"read_table": "that of `media/parquet_files.py`"},
    "hallo4/preference/pickapic.py": {
        "read_table": "that of `media/parquet_files.py`",
        "read_bytes": "a video of the store, which is written into a table",
    },
    "hallo4/evaluation/run.py": {"open": "rows of ours, to which it writes"},
    "hallo4/evaluation/look/sidecars.py": {"np.load": "of an `open_input`"},
    "hallo4/evaluation/show/page.py": {
        "read_text": "a page of the package",
        "read_bytes": "what was just written",
    },
    "hallo4/training/reference_table.py": {"safe_open": "after `check_regular`"},
    "hallo4/training/log.py": {"read_bytes": "a log of ours, of which torn lines are dropped"},
    "hallo4/training/failure.py": {"json.loads": "what another process of the same training says"},
    "hallo4/training/checkpoint.py": {"json.loads": "of a text made in the same function"},
    "hallo4/studio/pages.py": {"read_bytes": "a page of the package"},
    "hallo4/studio/study.py": {"read_text": "a study of the package"},
    "hallo4/studio/study_pages.py": {"read_text": "words and pages of the package"},
    "hallo4/pose/light_networks.py": {"os.open": "the null device, to write to"},
}
"""File -> call -> why it may stand there."""
NO_FILES = {"PreferenceStore", "webbrowser", "PortraitAnimator", "stage", "_runner"}
"""Whose `open` and `from_pretrained` are their own."""


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def reads(call: ast.Call) -> str | None:
    """The name of the reader, if a call is one."""
    name = dotted(call.func)
    before, _, last = name.rpartition(".")
    if before.rpartition(".")[2] in NO_FILES:
        return None
    if found := READERS & {last, ".".join(name.split(".")[-2:])}:
        return found.pop()
    if last != OPEN:
        return None
    mode = next((word.value for word in call.keywords if word.arg == "mode"), None)
    modes = [mode] if mode else call.args[1 if name == OPEN else 0 :][:1]
    said = modes[0].value if modes and isinstance(modes[0], ast.Constant) else "r"
    return None if set("wax") & set(str(said)) else OPEN


def readers_in(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and (name := reads(node)):
            yield node.lineno, name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("open(path)", "open"),
        ("open(path, 'rb')", "open"),
        ("path.open('rb+')", "open"),
        ("folder.file.read_text()", "read_text"),
        ("json.loads(text)", "json.loads"),
        ("numpy.torch.load(path)", "torch.load"),
        ("open(path, 'wb')", None),
        ("path.open(mode='a')", None),
        ("PreferenceStore.open(folder)", None),
        ("read_json(path)", None),
    ],
)
def test_readers_are_told_from_others(text, name):
    assert reads(ast.parse(text, mode="eval").body) == name


def test_files_are_opened_and_parsed_in_one_way():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in readers_in(path)
        if name not in MAY.get(str(path.relative_to(ROOT)), {})
    ]
    assert wrong == [], "see `What is read, and in which range` in CONTRIBUTING.md"


def test_what_may_is_still_there():
    gone = [
        f"{file} {name}"
        for file, names in MAY.items()
        for name in names
        if name not in {found for _, found in readers_in(ROOT / file)}
    ]
    assert gone == []
