from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Ledger, settled


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """Afterwards each token was closed or handed out exactly once."""
    with settled() as ledger:
        yield ledger
