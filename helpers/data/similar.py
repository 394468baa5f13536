"""Near-duplicates, by the perceptual hash of the ImageHash library."""

from collections.abc import Iterator

import numpy as np

DISTANCE = 6  # bits of 64: near-duplicates in the real sets differ by 0 to 6, most strangers by 12 and more


def phash(image) -> int:
    """64 bits that barely change when a PIL image is resized, compressed or slightly altered."""
    import imagehash

    factor = max(1, min(image.size) // 32)
    bits = imagehash.phash(image.reduce(factor)).hash  # reducing first makes the library's own resizing cheap
    return int(np.packbits(bits).view(">u8")[0])


def near_pairs(a: np.ndarray, b: np.ndarray, rows: int = 256) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices (i, j) of all pairs in ``a`` × ``b``, uint64 hashes, that look alike; block by block."""
    for start in range(0, len(a), rows):
        i, j = np.nonzero(np.bitwise_count(a[start : start + rows, None] ^ b[None]) <= DISTANCE)
        yield i + start, j
