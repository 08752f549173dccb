"""Run the tests of the export's arrays where torch is not installed; `make test-arviz1` does.

The package's `__init__` imports torch. Here an empty package stands in its place, under which the files that need
nothing but numpy are found as usual.
"""

import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

if __name__ == "__main__":
    package = types.ModuleType("probseq")
    package.__path__ = [str(ROOT / "probseq")]
    sys.modules["probseq"] = package
    # The options and fixtures of the whole suite need torch too; that warnings are errors holds here as well.
    result = pytest.main(["-q", "-o", "addopts=", "--noconftest", "--rootdir", str(ROOT), *sys.argv[1:]])
    assert "torch" not in sys.modules
    sys.exit(result)
