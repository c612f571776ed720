"""What is printed may have no reader, or no room: no traceback, and an exit code that says so."""

import subprocess
import sys

import pytest

HALLO4 = [sys.executable, "-c", "import sys; from hallo4.cli import main; sys.exit(main())"]


@pytest.mark.parametrize("words", [["--help"], ["evaluate", "--help"]])
def test_a_closed_output_ends_quietly(words):
    """As in `hallo4 ... | head -1`."""
    process = subprocess.Popen([*HALLO4, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert not said


def test_a_closed_place_for_errors_ends_quietly():
    process = subprocess.Popen([*HALLO4, "nonsense"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stderr.close()
    assert not process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=60) == 141


def test_a_full_disk_behind_the_output_is_one_line():
    with open("/dev/full", "w") as full:
        made = subprocess.run(
            [*HALLO4, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert made.returncode == 2
    assert made.stderr.startswith("hallo4: error: what was to be printed cannot be written (No space left")
    assert made.stderr.count("\n") == 1


def test_warnings_of_the_package_are_notes_of_one_line(tmp_path, capsys, monkeypatch):
    """Where no command collects them."""
    import warnings

    from hallo4.cli import front_door, main
    from hallo4.media import MediaWarning

    class Command:
        @staticmethod
        def run(words):
            warnings.warn("a.wav: is silent.", MediaWarning, stacklevel=1)

    monkeypatch.setattr(front_door.importlib, "import_module", lambda name: Command)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().err == "hallo4: note: a.wav: is silent.\n"
