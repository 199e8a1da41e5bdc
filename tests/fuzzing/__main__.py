"""``python -m tests.fuzzing [CORPUS ...] [-max_total_time=SECONDS ...]``: the protocols under
atheris, which has to be installed (``pip install atheris``); the options are libFuzzer's.

What it finds it writes to a file ``crash-...``, which belongs into ``corpus`` when it is fixed.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

atheris: Any = importlib.import_module("atheris")
with atheris.instrument_imports(include=["trio_ipc", "v8serialize"]):
    from .wires import run_input

if __name__ == "__main__":
    atheris.Setup(sys.argv, run_input)
    atheris.Fuzz()
