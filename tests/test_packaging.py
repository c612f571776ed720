"""What is shipped, what it depends on, and what it must never drag in."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import hallo4
from hallo4.version import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hallo4"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

UNWANTED = ("torchvision", "torchaudio", "cv2", "decord")
"""Their builds do not fit the pinned torch, or nobody maintains them."""
UNWANTED_DISTRIBUTIONS = {"torchvision", "torchaudio", "opencv-python", "opencv-python-headless", "decord"}
MODULE_OF = {
    "pillow": "PIL",
    "espeakng-loader": "espeakng_loader",
    "scikit-image": "skimage",
    "pytest-xdist": "xdist",
}


def third_party_imports(path: Path, everywhere: bool) -> set[str]:
    """Names of foreign modules that a file imports, at its top only or inside functions too."""
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import) and node not in typing_only:
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node not in typing_only:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"hallo4"}


def modules(requirements: list[str]) -> set[str]:
    names = [re.match(r"[A-Za-z0-9-]+", requirement)[0].lower() for requirement in requirements]
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in names}


OPTIONAL: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
CORE = modules(PROJECT["project"]["dependencies"])
EXTRAS = modules([line for lines in OPTIONAL.values() for line in lines])
USER_EXTRAS = modules([line for extra in OPTIONAL.keys() - {"test", "docs"} for line in OPTIONAL[extra]])


WEB = {
    PACKAGE / "studio" / name
    for name in ("guard.py", "pages.py", "routes.py", "several.py", "make/routes.py", "make/media_routes.py")
}
"""FastAPI reads a route's signature in the module that defines it, so these import it at their top.
`studio/annotate.py` and `studio/make/server.py` import them when a page is served, and say which extra is
missing."""


HOSTS_OF_PLUGINS = {"comfyui": {"comfy", "folder_paths"}}
"""Folder of a plug-in -> modules of the program that loads it."""


def test_a_plain_install_is_enough_to_import_every_module():
    for path in set(PACKAGE.rglob("*.py")) - WEB:
        assert third_party_imports(path, everywhere=False) <= CORE, path


def test_every_foreign_module_is_declared():
    # A benchmark may start what tests start, and what takes the pictures of the pages.
    tests = {path.stem for folder in ("tests", "docs") for path in (ROOT / folder).rglob("*.py")}
    for folder in ("hallo4", "tests", "benchmarks", "docs", "integrations"):
        for path in (ROOT / folder).rglob("*.py"):
            ours = tests | {other.stem for other in path.parent.glob("*.py")}
            host = HOSTS_OF_PLUGINS.get(path.parent.name, set())
            assert third_party_imports(path, everywhere=True) - ours - host <= CORE | EXTRAS, path


def test_every_module_can_be_imported_without_extras_and_without_the_unwanted():
    paths = set(PACKAGE.rglob("*.py")) - WEB
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    code = (
        f"import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({[*UNWANTED, *USER_EXTRAS]!r}))\n"
        f"for name in {sorted(names)!r}: importlib.import_module(name)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_no_dependency_drags_in_the_unwanted():
    from packaging.requirements import Requirement

    seen: set[tuple[str, str]] = set()
    open_ends = [
        ("hallo4", ""),
        *(("hallo4", extra) for extra in PROJECT["project"]["optional-dependencies"]),
    ]
    while open_ends:
        name, extra = open_ends.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # needed on other machines only
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                open_ends += [(requirement.name.lower(), wanted) for wanted in (requirement.extras or {""})]
                open_ends.append((requirement.name.lower(), ""))
    assert {name for name, _ in seen} & UNWANTED_DISTRIBUTIONS == set()
    assert {"torch", "diffusers", "transformers"} <= {name for name, _ in seen}


def test_help_needs_no_heavy_module():
    code = (
        "import sys\n"
        "from hallo4.cli import main\n"
        "code = main(['--help'])\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'av', 'numpy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "animate" in result.stdout


def test_the_version_is_said_once_and_the_same_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\d+\.\d+\.\d+)", changelog, flags=re.MULTILINE)[1] == __version__
    assert getattr(hallo4, "__version__", __version__) == __version__
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]


def test_everything_in_the_package_that_is_no_code_is_shipped():
    shipped = {
        path
        for pattern in PROJECT["tool"]["setuptools"]["package-data"]["hallo4"]
        for path in PACKAGE.glob(pattern)
    }
    assert PACKAGE / "py.typed" in shipped
    data = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert data <= shipped


def test_constraints_name_every_direct_dependency_and_pin_torch():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    assert modules(list(pins)) == (CORE | EXTRAS) - {"hallo4"}


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout: what is tracked cannot be told from what was built")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_tracked_files_name_no_machine_and_fit_in_a_clone():
    private = re.compile(
        "|".join(re.escape(f"/{name}/") for name in ("work", "root", "home", "Users", "cpfs01"))
    )
    hosts = {"arxiv.org", "github.com", "huggingface.co", "www.apache.org", "www.w3.org"}
    hosts |= {"app.prolific.com"}  # where a study may send its raters
    hosts |= {"cv.iptc.org", "ns.adobe.com", "iptc.org"}  # names of metadata vocabularies
    hosts |= {"www.robots.ox.ac.uk"}  # where SyncNet is published
    hosts |= {"cdn.jsdelivr.net", "unpkg.com", "registry.npmjs.org"}  # publish the networks of pose-light
    hosts |= {"download.pytorch.org"}  # the build of PyTorch that a container takes
    hosts |= {"git-lfs.github.com"}  # in the first line of every pointer of Git LFS
    found = []
    for path in tracked_files():
        assert path.stat().st_size <= 40 * 2**20, f"{path} is larger than 40 MiB"
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # pictures, sound, weights
        if path != Path(__file__):
            found += [f"{path}: {hit[0]}" for hit in private.finditer(text)]
        urls = re.findall(r"https?://([^\s/:'\"`)>]+)", text)
        reserved = (".example", "localhost", "127.0.0.1")  # for examples
        found += [
            f"{path}: host {host}" for host in urls if host not in hosts and not host.endswith(reserved)
        ]
    assert found == [], "a path or host of one machine; a public host can be added to the list above"


def test_the_check_is_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "exec make test"
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")
