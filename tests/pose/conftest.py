"""The networks of the light estimator, where they are: they are fetched by `make test`, never committed."""

from pathlib import Path

import pytest

from hallo4.weights.catalogue import BUNDLES
from hallo4.weights.check import check_file
from hallo4.weights.places import weights_root

ROOTS = (Path(__file__).parents[2] / ".cache" / "weights", weights_root())


@pytest.fixture(scope="session")
def light_root() -> Path:
    """A root of weights ($HALLO4_WEIGHTS) with all files of pose-light."""
    files = BUNDLES["pose-light"].files
    for root in ROOTS:
        if all(check_file(file, root / file.folder).state == "right" for file in files):
            return root
    pytest.skip("needs the networks of pose-light: run make test, or hallo4 weights fetch pose-light")


@pytest.fixture(scope="session")
def light(light_root):
    """The light estimator."""
    from hallo4.pose import load_estimator

    return load_estimator("light", folder=light_root / "pose")
