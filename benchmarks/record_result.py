"""Keep a run's figures: the part of result.json that documentation quotes, without curves and pictures.

python benchmarks/record_result.py runs/demo results/q-snn/digits-seed0.json --command "bitspike demo --seed 0"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

KEPT = (
    "title method data seed created accuracy validation_accuracy test_samples artifact_bytes differing_bits "
    "train_seconds seconds agreement latency memory energy environment config"
).split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--command", required=True, help="what a reader types to repeat the run")
    options = parser.parse_args()
    result = json.loads((options.run / "result.json").read_text())
    kept = {"command": options.command} | {key: result[key] for key in KEPT if key in result}
    kept["config"]["data"]["root"] = None  # where the files lay is nobody's business
    kept["size"] = {key: value for key, value in result["size"].items() if key != "rows"}
    kept["epochs"] = {stage: len(records) for stage, records in result["history"].items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
