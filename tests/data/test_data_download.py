from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pooch
import pytest
from data_writers import write_mnist

from bitspike.data import DataError, load
from bitspike.data import mnist as mnist_module
from bitspike.data.download import Remote, fetch_all


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder / project)
    return folder / "bitspike"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_no_network_names_the_url(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, **_: object) -> str:
        raise ConnectionError("no route to host\nmore detail")

    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(DataError, match=r"cannot download https?://\S+: no route to host; .*--data-root$"):
        load(name)


def test_download_checks_and_caches(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "server", suffix=".gz")
    sums = tuple(
        hashlib.md5((tmp_path / "server" / f"{stem}.gz").read_bytes()).hexdigest() for stem in mnist_module._ALL_STEMS
    )
    calls: list[str] = []

    class Copy:
        def __call__(self, url: str, output_file: str, _pooch: object) -> None:
            calls.append(url)
            Path(output_file).write_bytes((tmp_path / "server" / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: Copy())
    monkeypatch.setattr(mnist_module, "_MNIST_MD5", sums)
    first, again = load("mnist"), load("mnist")
    assert len(calls) == 4 and (cache / "mnist").is_dir()
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)

    with pytest.raises(DataError, match=r"cannot download http://x/a\.gz: MD5 hash"):
        (tmp_path / "server/a.gz").write_bytes(b"other")
        fetch_all("toy", {"a.gz": Remote("http://x/a.gz", "0" * 32)})
