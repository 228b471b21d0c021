"""A run's folder: what a recipe writes and the other commands read.

config.json         the resolved configuration
STAGE/              checkpoints of each stage, e.g. full-precision/, quantized/, exact/
compression.json    the methods that rebuild the final network's structure
model.safetensors   the final weights (exact stage)
model.bspk          the artifact
result.json         every figure; report.html shows it
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..compress import CompressionConfig, config_from_dict, config_to_dict
from ..errors import BitspikeError, ConfigError
from ..learn.checkpoint import write_json
from . import configs
from .registry import get_recipe

__all__ = ["RunDirectory"]

METHODS = "compression.json"


@dataclass(frozen=True)
class RunDirectory:
    """Paths and files of the run in ``path``."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def artifact(self) -> Path:
        return self.path / "model.bspk"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def stage(self, name: str) -> Path:
        """Checkpoint folder of a training stage."""
        return self.path / name

    def latest_weights(self, name: str) -> Path:
        """Weights at the end of stage ``name``. BitspikeError where the run has none."""
        pointer = self.stage(name) / "latest.json"
        if not pointer.exists():
            raise BitspikeError(f'{self.path} has no {name} stage; train one with a "baseline" in its configuration')
        return self.stage(name) / str(self._read(f"{name}/latest.json").get("checkpoint")) / "model.safetensors"

    def check(self, recipe: str, config: Any, resume: bool) -> None:
        """ConfigError when the folder holds a run and ``resume`` is False, or a run of another configuration."""
        values = _values(recipe, config)
        if self.result.exists() or any(self.path.glob("*/latest.json")):  # an epoch's work lies here
            if not resume:
                raise ConfigError(f"{self.path} already holds a run; continue it with --resume or choose another --out")
            begun = _values(*self.config())  # with the defaults of settings that came later
            differing = sorted(k for k, v in values.items() if begun.get(k) != v)
            if differing:
                raise ConfigError(
                    f"{self.path} was begun with other settings ({', '.join(differing)}); resume needs the same"
                )

    def begin(self, recipe: str, config: Any, resume: bool) -> None:
        """Create the folder and record the configuration, after :meth:`check`."""
        self.check(recipe, config, resume)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", _values(recipe, config))

    def config(self) -> tuple[str, Any]:
        """(recipe name, config) of the run. BitspikeError where the folder holds none."""
        values = self._read("config.json")
        recipe = get_recipe(str(values.get("recipe")))
        return recipe.name, configs.config_from_dict(recipe, values)

    def write_methods(
        self, methods: Sequence[CompressionConfig], stage: str = ".", allocation: dict[str, Any] | None = None
    ) -> None:
        """Record the compressions applied so far, so that the structure can be built again, and a choice of bits."""
        self.stage(stage).mkdir(parents=True, exist_ok=True)
        record = {"methods": [config_to_dict(method) for method in methods], "allocation": allocation}
        write_json(self.stage(stage) / METHODS, record)

    def has_methods(self, stage: str) -> bool:
        """Whether ``stage`` was begun before, with its methods applied."""
        return (self.stage(stage) / METHODS).exists()

    def read_methods(self, stage: str = ".") -> list[CompressionConfig]:
        """What :meth:`write_methods` recorded. BitspikeError where nothing is."""
        methods = self._read(f"{stage}/{METHODS}").get("methods")
        if not isinstance(methods, list):
            raise BitspikeError(f"{self.stage(stage) / METHODS} holds no list of methods")
        return [config_from_dict(method) for method in methods]

    def read_allocation(self, stage: str) -> dict[str, Any] | None:
        """The choice of bits that :meth:`write_methods` recorded, if there was one."""
        record: dict[str, Any] | None = self._read(f"{stage}/{METHODS}").get("allocation")
        return record

    def write_result(self, result: dict[str, Any]) -> None:
        write_json(self.result, result)

    def read_result(self) -> dict[str, Any]:
        """The figures of a finished run."""
        return self._read("result.json")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            raise BitspikeError(f"{self.path} is not a finished run folder: it has no {name}") from None
        except (OSError, ValueError) as error:
            raise BitspikeError(f"{self.path / name} cannot be read: {error}") from None
        if not isinstance(value, dict):
            raise BitspikeError(f"{self.path / name} holds a JSON {type(value).__name__}, accepted: an object")
        return value


def _values(recipe: str, config: Any) -> dict[str, Any]:
    """The configuration as it reads back from JSON."""
    values: dict[str, Any] = json.loads(json.dumps({"recipe": recipe, "version": 1} | dataclasses.asdict(config)))
    return values
