"""Near-duplicates, by the perceptual hash of the ImageHash library; without it, exact duplicates alone."""

import hashlib
import importlib.util
import itertools

import numpy as np

from .listing import SPLITS

COUNTED = importlib.util.find_spec("imagehash") is not None  # Colab lacks it where it has no network
DISTANCE = 6  # bits of 64: near-duplicates in the real sets differ by 0 to 6, most strangers by 12 and more


def phash(image) -> int:
    """64 bits that barely change when a PIL image is resized, compressed or slightly altered.

    Without ImageHash: bits that are far apart unless the pixels are the same.
    """
    if not COUNTED:
        return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest())
    import imagehash

    factor = max(1, min(image.size) // 32)
    bits = imagehash.phash(image.reduce(factor)).hash  # reducing first makes the library's own resizing cheap
    return int(np.packbits(bits).view(">u8")[0])


def near_pairs(a: np.ndarray, b: np.ndarray, rows: int = 256) -> np.ndarray:
    """Indices (2, pairs) into ``a`` and ``b``, uint64 hashes, of all that look alike, block by block."""
    found = [np.empty((0, 2), dtype=int)]
    for start in range(0, len(a), rows):
        alike = np.bitwise_count(a[start : start + rows, None] ^ b[None]) <= DISTANCE
        found.append(np.argwhere(alike) + np.array([start, 0]))
    return np.concatenate(found).T


def families(hashes: np.ndarray) -> np.ndarray:
    """(N,) for each of N hashes the number of its group of near-duplicates."""
    from scipy.sparse import coo_array  # here, so that decoding processes do without it
    from scipy.sparse.csgraph import connected_components

    kinds, kind = np.unique(hashes, return_inverse=True)
    i, j = near_pairs(kinds, kinds)
    alike = coo_array((np.ones(len(i)), (i, j)), shape=(len(kinds), len(kinds)))
    return connected_components(alike, directed=False)[1][kind]


def across(hashes: np.ndarray, splits: np.ndarray, names: list[str]) -> tuple[dict[str, int], dict[str, str]]:
    """How many pairs look alike between two splits, ``{"train – test": …}``, and the first of them."""
    counts, examples = {}, {}
    for a, b in itertools.combinations(SPLITS, 2) if COUNTED else ():
        rows, columns = np.flatnonzero(splits == a), np.flatnonzero(splits == b)
        i, j = near_pairs(hashes[rows], hashes[columns])
        counts[f"{a} – {b}"] = len(i)
        examples[f"{a} – {b}"] = f"{names[rows[i[0]]]} ≈ {names[columns[j[0]]]}" if len(i) else ""
    return counts, examples
