"""Where the real data lies, for the tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def no_environment_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITSPIKE_DATA", raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"real data not found at {SHARED}")
    return SHARED
