"""Budgets, names and the command line of the C export: what is refused, what is printed, what is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import c99_graphs as cases
import numpy as np
import pytest

from bitspike.deploy import artifact, c99, ir
from bitspike.errors import BitspikeError, ConfigError


@pytest.fixture(scope="module")
def graph() -> ir.Graph:
    return cases.chain(np.random.default_rng(0), [8, 12], [8, 1], steps=4, frames=True)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "bitspike", "export", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("streaming", [False, True], ids=["sequence", "streaming"])
def test_budgets_are_kept_to_the_byte(graph: ir.Graph, streaming: bool, tmp_path: Path) -> None:
    need = c99.footprint(graph, streaming=streaming)
    exact = {"flash_budget": need.flash, "ram_budget": need.ram}
    for short in exact:
        budgets = {**exact, short: exact[short] - 1}
        with pytest.raises(ConfigError, match=f"needs {exact[short]} bytes.*budget is {exact[short] - 1}"):
            c99.export(graph, tmp_path / "none", name="net", streaming=streaming, **budgets)
    assert not (tmp_path / "none").exists()
    assert c99.export(graph, tmp_path / "some", name="net", streaming=streaming, **exact) == need
    assert sorted(p.name for p in (tmp_path / "some").iterdir()) == ["net.c", "net.h"]


def test_weights_take_their_bits() -> None:
    """Rows of lanes: at most one zero row and seven unused lanes more than the bits themselves."""
    rng = np.random.default_rng(1)
    for bits in range(1, 9):
        nodes: list[ir.Node] = [ir.Input(1, 4, 4, 1, (0,))]
        nodes += [
            ir.Conv(0, cases.random_weight(rng, (16, 1, 1, 1), bits), bits),
            cases.lif(rng, (1,), 16, 100),
            ir.Conv(2, cases.random_weight(rng, (40, 16, 3, 3), bits), bits),
            cases.lif(rng, (3,), 40, 10),
            cases.readout(rng, 4, 40, bits, pool=True),
        ]
        weights = c99.footprint(ir.Graph(2, nodes)).weights
        spare = int(bits < 8)  # a stream ends with a spare byte
        assert weights == (16 * bits + 7) // 8 + spare + 145 * bits * 5 + (7 * 40 * bits + 7) // 8 + spare


def test_edges_share_memory_once_they_have_been_read() -> None:
    """A chain of equal layers needs two of them at a time, however long it is."""
    rng = np.random.default_rng(2)
    sizes = [c99.footprint(cases.chain(rng, [8] * n, [1] * n, steps=4, frames=False)).edges for n in (2, 3, 8)]
    assert sizes == [2 * 4 * 20] * 3


def test_streaming_keeps_one_step_of_edges_and_all_membranes(graph: ir.Graph) -> None:
    sequence, stream = c99.footprint(graph), c99.footprint(graph, streaming=True)
    assert stream.edges * graph.time_steps == sequence.edges
    widths = [1 if node.membrane_bits <= 8 else 2 for node in graph.nodes if isinstance(node, ir.Lif)]
    assert stream.membranes == 20 * (8 * widths[0] + 12 * widths[1])
    assert sequence.membranes == 0


@pytest.mark.parametrize("name", ["3net", "a-b", "", "_net", "x" * 64, "naïve"])
def test_a_name_that_is_no_identifier_is_refused(graph: ir.Graph, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="C identifier"):
        c99.export(graph, tmp_path, name=name)


def test_the_text_is_a_function_of_the_graph(graph: ir.Graph) -> None:
    assert c99.emit(graph, "net") == c99.emit(graph, "net")
    header, source, _ = c99.emit(graph, "other")
    assert "net_" not in header + source.replace("bitspike", "")
    assert (header + source).isascii()


def test_test_samples_must_fit(graph: ir.Graph) -> None:
    with pytest.raises(ConfigError, match="test_samples"):
        c99.footprint(graph, test_samples=np.zeros((1, 3, 3), np.uint8))


def test_export_from_a_file_and_from_a_run(graph: ir.Graph, tmp_path: Path) -> None:
    run = tmp_path / "my-run.1"
    run.mkdir()
    samples = cases.random_samples(np.random.default_rng(3), graph, 2)
    artifact.save(graph, run / "model.bspk", samples)
    need = c99.footprint(graph, test_samples=samples)
    for number, source in enumerate((run, run / "model.bspk")):
        done = command(source, "--to", "c99", "-o", tmp_path / f"out{number}")
        assert done.returncode == 0, done.stderr
        assert str(need) in done.stdout
        assert (tmp_path / f"out{number}" / "my_run_1.c").read_text() == c99.emit(
            graph, "my_run_1", test_samples=samples
        )[1]
    done = command(run, "--to", "c99", "-o", tmp_path / "named" / "digits.c", "--streaming")
    assert done.returncode == 0, done.stderr
    assert "void digits_step(" in (tmp_path / "named" / "digits.h").read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--to", "c99", "--flash-budget", "100"], ["flash", "budget is 100"]),
        (["--to", "c99", "--ram-budget", "100"], ["RAM", "budget is 100"]),
        (["--to", "c99", "--ram-budget", "-1"], ["--ram-budget", "-1"]),
        (["--to", "c99", "--name", "my-net"], ["my-net", "identifier"]),
        (["--to", "c99", "--data-root", "x"], ["--data-root", "bspk"]),
        (["--to", "bspk", "--streaming"], ["--streaming", "c99"]),
        (["--to", "c100"], ["c100", "c99"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_gets_one_message_and_status_2(
    graph: ir.Graph, arguments: list[str], named: list[str], tmp_path: Path
) -> None:
    artifact.save(graph, tmp_path / "model.bspk")
    done = command(tmp_path / "model.bspk", *arguments, "-o", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and all(word in done.stderr for word in named)
    if "budget is" in " ".join(named):
        assert "flash" in done.stdout and "RAM" in done.stdout  # the need is printed before the refusal
    assert not (tmp_path / "out").exists()


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    done = command(tmp_path, "--to", "c99")
    assert done.returncode == 2 and str(tmp_path) in done.stderr
    with pytest.raises(BitspikeError, match="missing"):
        from bitspike.cli.export import load_network

        load_network(tmp_path / "missing.bspk")


def test_the_documented_tables_are_the_recorded_ones() -> None:
    import importlib.util
    import json

    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("cortex_m", root / "benchmarks" / "cortex_m.py")
    assert spec is not None and spec.loader is not None
    cortex_m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cortex_m)
    result = json.loads((root / "results" / "c99" / "cortex-m.json").read_text())
    for name, table in cortex_m.tables(result).items():
        assert f"<!-- cortex-m:{name} -->\n{table}\n<!-- end -->" in (root / "docs" / "c99.md").read_text()
    assert all(row["differing_logits"] == row["differing_spike_checksums"] == 0 for row in result["rows"])
