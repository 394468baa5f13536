"""Arrays of images, which may be larger than memory -> batches of tensors."""

import copy
import hashlib
import zlib

import numpy as np
import torch


class ArrayDataset:
    """One set of a data set, for example its training set: some rows of arrays that hold all of it.

    ``dataset[indices]`` is a batch: images uint8 (B, 3, H, W) in channels_last strides, and targets
    (B,) or (B, H, W). ``dataset[i]`` is one image and its target.

    Args:
        images: uint8 (N, H, W, 3).
        targets: int64 (N,), or uint8 class ids (N, H, W). None: each image is its own target.
        names: N file names.
        rows: which of the N rows belong to this set. None: all.
        groups: (N,) numbers. Images of one number are one piece of evidence, such as two views of
            a scene. None: each image is one.
        unit: what a group is called, in the plural.
        checksums: (N,) a checksum of each image and mask. None: computed when it is needed.
    """

    def __init__(
        self, images, targets, names, rows=None, groups=None, unit="images", checksums=None
    ):
        every = np.arange(len(images))
        self._images = images
        self._targets = targets
        self._names = names
        self._rows = every if rows is None else np.asarray(rows, dtype=np.int64)
        self._groups = every if groups is None else np.asarray(groups)
        self._checksums = checksums
        self.unit = unit

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        rows = self._rows[index]
        if np.ndim(rows) == 0:
            return tuple(batch[0] for batch in self[[index]])
        images = torch.from_numpy(self._images[rows]).permute(0, 3, 1, 2)
        if self._targets is None:
            return images, images
        return images, torch.from_numpy(self._targets[rows])

    @property
    def images(self):
        """uint8 (len, H, W, 3). Read into memory where the rows don't lie side by side on disk."""
        return self._mine(self._images)

    @property
    def targets(self):
        """(len,) or (len, H, W), or None, as ``images``."""
        return None if self._targets is None else self._mine(self._targets)

    @property
    def names(self):
        return [self._names[row] for row in self._rows]

    @property
    def groups(self):
        """(len,) the number of each image's group: the units that a bootstrap resamples."""
        return self._groups[self._rows]

    def _mine(self, array):
        if len(self) and (np.diff(self._rows) == 1).all():
            return array[self._rows[0] : self._rows[-1] + 1]  # side by side: no copy
        return array[self._rows]

    def subset(self, count):
        """``count`` images, always the same ones, in the old order. All, if ``count`` is None."""
        if count is None or count >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self))[:count])
        other = copy.copy(self)
        other._rows = self._rows[chosen]
        return other

    def digest(self):
        """A short text that changes with any image, any target, and their order."""
        checksums = self._checksums
        if checksums is None:
            checksums = {row: self._checksum(row) for row in self._rows}
        found = hashlib.sha256()
        for row in self._rows:
            found.update(b"%d " % checksums[row])
        if np.ndim(self._targets) == 1:  # class numbers; masks are in the checksums
            found.update(self.targets.astype(np.int64).tobytes())
        return found.hexdigest()[:16]

    def _checksum(self, row):
        checksum = zlib.crc32(self._images[row].tobytes())
        if np.ndim(self._targets) < 3:
            return checksum
        return zlib.crc32(self._targets[row].tobytes(), checksum)
