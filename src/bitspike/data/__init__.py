"""Data sets in their official formats, as bytes: loading, splitting, augmenting, batching.

    bundle = load("digits")
    for inputs, labels, indices in epoch_batches(bundle.train, 64, seed=0, epoch=0):
        x = normalize(torch.from_numpy(inputs), bundle.spec)

Importing this package imports numpy alone; torch, scikit-learn, Pillow and pooch come in where used.
"""

# Importing a loader's module registers it.
from bitspike.data import cifar, digits, mnist, nmnist
from bitspike.data.batches import epoch_batches, num_batches
from bitspike.data.errors import DataError
from bitspike.data.registry import Loaded, list_datasets, load, register_dataset
from bitspike.data.spec import DataBundle, DataSpec, Split
from bitspike.data.tensors import normalize, to_time_leading
from bitspike.data.transforms import AUGMENTATIONS, Augment, Augmentation

__all__ = [
    "AUGMENTATIONS",
    "Augment",
    "Augmentation",
    "DataBundle",
    "DataError",
    "DataSpec",
    "Loaded",
    "Split",
    "cifar",
    "digits",
    "epoch_batches",
    "list_datasets",
    "load",
    "mnist",
    "nmnist",
    "normalize",
    "num_batches",
    "register_dataset",
    "to_time_leading",
]
