"""Near-duplicates, by the perceptual hash of the ImageHash library."""

import numpy as np

DISTANCE = 8  # bits of 64; true near-duplicates in the real sets differ by 0 to 6, strangers by 12 and more


def phash(image) -> int:
    """64 bits that barely change when a PIL image is resized, compressed or slightly altered."""
    import imagehash

    factor = max(1, min(image.size) // 32)
    bits = imagehash.phash(image.reduce(factor)).hash  # reducing first makes the library's own resizing cheap
    return int(np.packbits(bits).view(">u8")[0])


def near_pairs(a: np.ndarray, b: np.ndarray, rows: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs in ``a`` × ``b``, uint64 hashes, that look alike; blockwise, so memory is flat."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(a), rows):
        distance = np.bitwise_count(a[start : start + rows, None] ^ b[None])
        pairs.append(np.argwhere(distance <= DISTANCE) + (start, 0))
    return tuple(np.concatenate(pairs).T)
