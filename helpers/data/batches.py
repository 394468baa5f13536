"""uint8 arrays on disk -> whole batches of tensors."""

import mmap

import numpy as np


class ArrayDataset:
    """One split of a data set, for ``DataLoader(dataset, collate_fn=lambda batch: batch)``.

    ``__getitems__`` hands a whole batch over in one gather, so ``num_workers=0`` is the fast path.

    Shapes: images uint8 (N, H, W, 3), memory-mapped; targets int64 (N,) for birds, uint8 (N, H, W) class ids
    for streets, None for landscapes (whose target is the image itself); names: N relative file names.
    """

    def __init__(self, images, targets, names):
        self.images, self.targets, self.names = images, targets, names
        self._touched = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        images, targets = self.__getitems__([index])
        return images[0], targets[0]

    def __getitems__(self, indices):
        """Indices -> images uint8 (B, 3, H, W) in channels_last strides, targets (B,) or (B, H, W)."""
        import torch  # here, so that decoding processes do without it

        images = torch.from_numpy(np.asarray(self.images)[indices]).permute(0, 3, 1, 2)
        targets = images if self.targets is None else torch.from_numpy(np.asarray(self.targets)[indices])
        self._touched += images.numel()
        if self._touched > 2**23 and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._touched = 0
            for array in (self.images, self.targets):  # the system keeps the pages cached, out of our memory
                if isinstance(array, np.memmap):
                    array._mmap.madvise(mmap.MADV_DONTNEED)
        return images, targets

    def subset(self, n: int, seed: int = 0) -> "ArrayDataset":
        """``n`` images drawn by chance (all, if there are no more), copied into memory, in the old order."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:n])
        targets = None if self.targets is None else np.asarray(self.targets)[chosen]
        return ArrayDataset(np.asarray(self.images)[chosen], targets, [self.names[i] for i in chosen])
