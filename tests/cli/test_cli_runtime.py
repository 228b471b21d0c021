"""Settings of ``bitspike train`` that say what training runs on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bitspike import recipes
from bitspike.cli.runs import train
from bitspike.errors import ConfigError
from bitspike.learn import Runtime

CASES: dict[str, tuple[dict[str, Any], Runtime]] = {
    "default": ({}, Runtime()),
    "options": (
        {"convolutions": "winograd", "keep_freed_memory": True},
        Runtime(convolutions="winograd", keep_freed_memory=True),
    ),
    "settings": ({"settings": ["runtime.convolutions=winograd"]}, Runtime(convolutions="winograd")),
}


@pytest.mark.parametrize("case", CASES)
def test_train_hands_the_runtime_to_the_recipe(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, expected = CASES[case]
    seen: list[Any] = []
    monkeypatch.setattr(
        recipes, "get_recipe", lambda name: SimpleNamespace(run=lambda config, *_, **__: seen.append(config))
    )
    train("q-snn", data="digits", **options)
    assert [config.runtime for config in seen] == [expected]


def test_other_convolutions_are_refused() -> None:
    with pytest.raises(ConfigError, match="convolutions is 'fft', accepted: torch, winograd"):
        train("q-snn", data="digits", convolutions="fft")
