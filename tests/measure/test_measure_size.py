from __future__ import annotations

import pytest
import torch
from measure_graphs import Shipped
from torch import nn

from bitspike import compress, models
from bitspike.errors import ArtifactError
from bitspike.measure import artifact_sections, model_size


def resnet19(num_classes: int) -> nn.Module:
    with torch.device("meta"):
        model = models.create_model("resnet19", num_classes=num_classes)
        return compress.apply(model, compress.QSNN(weight_bits=1, edge_bits=8)) or model


@pytest.mark.parametrize(("classes", "megabytes"), [(10, 1.62), (100, 1.67)])
def test_resnet19_has_the_size_of_the_q_snn_card(classes: int, megabytes: float) -> None:
    report = model_size(resnet19(classes))
    assert report.megabytes == pytest.approx(megabytes, rel=0.01)


def test_resnet19_at_full_precision() -> None:
    report = model_size(resnet19(10))
    assert report.parameters == 12_569_226
    assert sum(r.parameters for r in report.rows if r.bits == 1) == 12_550_144
    assert report.fp32_bytes / 1e6 == pytest.approx(50.28, abs=0.005)
    with torch.device("meta"):
        plain = model_size(models.create_model("resnet19"))
    assert plain.bytes == plain.fp32_bytes == report.fp32_bytes


def test_rows_add_up(shipped: Shipped) -> None:
    report = model_size(shipped.exact.source)
    assert report.parameters == sum(p.numel() for p in shipped.exact.source.parameters())
    assert report.bytes == sum(row.bytes for row in report.rows)
    kinds = {(row.kind, row.bits) for row in report.rows}
    assert kinds == {("weight", 1), ("weight", 8), ("batch norm", 32), ("bias", 32)}
    assert report.as_dict()["rows"][0].keys() == {"name", "kind", "parameters", "bits", "bytes"}


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(3, 4)
    assert model_size(nn.Sequential(layer, layer)).parameters == 16


def test_sections_add_up_to_the_file(shipped: Shipped, tmp_path) -> None:
    sections = artifact_sections(shipped.artifact)
    assert sum(sections.values()) == len(shipped.artifact)
    assert {"header", "graph", "parameters", "weights", "metadata", "test vectors"} <= sections.keys()
    assert (
        sections["weights"] == 108 + 1944 // 8 + 1 + 2880
    )  # 8-bit first layer, 1-bit inner one padded to 4, 8-bit last
    path = tmp_path / "model.bspk"
    path.write_bytes(shipped.artifact)
    assert artifact_sections(path) == sections


@pytest.mark.parametrize("cut", [0, 10, 60, -1])
def test_a_damaged_table_is_refused(shipped: Shipped, cut: int) -> None:
    with pytest.raises(ArtifactError):
        artifact_sections(shipped.artifact[:cut])
