"""Work that processes share, started by a script that is no program."""

import subprocess
import sys

import pytest

WORK = """
import operator
from hallo4.evaluation.processes import shared_work
print(sorted(shared_work(operator.methodcaller, "bit_length", [1, 2, 4], 2)))
"""


@pytest.mark.parametrize("guard", [False, True])
def test_a_script_without_a_guard_is_told_so_in_one_line(tmp_path, guard):
    script = tmp_path / "script.py"
    script.write_text(
        "if __name__ == '__main__':\n    " + WORK.strip().replace("\n", "\n    ") if guard else WORK
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    if guard:
        assert (done.returncode, done.stdout) == (0, "[1, 2, 3]\n"), done.stderr
    else:
        assert done.stderr.count("Traceback") == 1, "of the script itself, and of no worker"
        assert done.stderr.splitlines()[-1].startswith("hallo4.errors.Hallo4Error: A worker process ended")
        assert 'call under `if __name__ == "__main__":`' in done.stderr
