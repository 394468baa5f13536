"""Arrays of pictures, which may be larger than memory -> batches of tensors."""

import numpy as np
import torch


class ArrayDataset:
    """One split of a data set: some rows of arrays that hold all of it.

    ``dataset[indices]`` is a batch: images uint8 (B, 3, H, W) in channels_last strides, and targets (B,) or
    (B, H, W). ``dataset[i]`` is one image and its target.

    All have N rows: ``images`` uint8 (N, H, W, 3), ``targets`` int64 (N,) or uint8 class ids (N, H, W), None
    where the image is its own target, ``names`` of files, and ``groups``, numbers: pictures of one number are
    one piece of evidence, as two views of a scene are, called ``unit`` in the plural; None: each is one.
    ``rows`` are this split's; None: all.
    """

    def __init__(self, images, targets, names, rows=None, groups=None, unit="pictures"):
        self._all, self.unit = (images, targets, names), unit
        self._groups = np.arange(len(images)) if groups is None else np.asarray(groups)
        self._rows = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        if not np.ndim(rows := self._rows[index]):
            images, targets = self[[index]]
            return images[0], targets[0]
        images, targets, _ = self._all
        images = torch.from_numpy(images[rows]).permute(0, 3, 1, 2)
        return images, images if targets is None else torch.from_numpy(targets[rows])

    @property
    def images(self) -> np.ndarray:
        """uint8 (len, H, W, 3); read into memory where this split's rows don't lie side by side on disk."""
        return self._mine(self._all[0])

    @property
    def targets(self) -> np.ndarray | None:
        """(len,) or (len, H, W), as ``images``."""
        return None if self._all[1] is None else self._mine(self._all[1])

    @property
    def names(self) -> list[str]:
        return [self._all[2][row] for row in self._rows]

    @property
    def groups(self) -> np.ndarray:
        """(len,) the number of each picture's group: what a bootstrap draws anew."""
        return self._groups[self._rows]

    def _mine(self, array):
        together = len(self) and (np.diff(self._rows) == 1).all()
        return array[self._rows[0] : self._rows[-1] + 1] if together else array[self._rows]

    def subset(self, n: int | None) -> "ArrayDataset":
        """``n`` pictures, always the same ones, in the old order; all, if there are no more or n is None."""
        if n is None or n >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self))[:n])
        return ArrayDataset(*self._all, self._rows[chosen], self._groups, self.unit)
