"""Near-duplicates: pictures whose perceptual hashes differ in a few bits."""

import itertools

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .listing import SPLITS

DISTANCE = 6  # bits of 64: near-duplicates in the real sets differ by 0 to 6, most strangers by 12 and more


def phash(image: Image.Image) -> int:
    """64 bits that barely change when an image is resized, compressed or slightly altered.

    As the ImageHash library's phash: which of the lowest 8×8 frequencies of 32×32 grey pixels are above
    their median. Reducing first makes the resizing cheap.
    """
    reduced = image.reduce(max(1, min(image.size) // 32)).convert("L")
    small = reduced.resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(small, dtype=np.float64))[:8, :8]
    return int(np.packbits(low > np.median(low)).view(">u8")[0])


def near_pairs(a: np.ndarray, b: np.ndarray, rows: int = 256) -> np.ndarray:
    """Indices (2, pairs) into ``a`` and ``b``, uint64 hashes, of all that look alike, block by block."""
    found = [np.empty((0, 2), dtype=int)]
    for start in range(0, len(a), rows):
        alike = np.bitwise_count(a[start : start + rows, None] ^ b[None]) <= DISTANCE
        found.append(np.argwhere(alike) + np.array([start, 0]))
    return np.concatenate(found).T


def families(hashes: np.ndarray) -> np.ndarray:
    """(N,) for each of N hashes the number of its group of near-duplicates."""
    kinds, kind = np.unique(hashes, return_inverse=True)
    i, j = near_pairs(kinds, kinds)
    alike = coo_array((np.ones(len(i)), (i, j)), shape=(len(kinds), len(kinds)))
    return connected_components(alike, directed=False)[1][kind]


def across(hashes: np.ndarray, splits: np.ndarray, names: list[str]) -> tuple[dict[str, int], dict[str, str]]:
    """How many pairs look alike between two splits, ``{"train – test": …}``, and the first of them."""
    counts, examples = {}, {}
    for a, b in itertools.combinations(SPLITS, 2):
        rows, columns = np.flatnonzero(splits == a), np.flatnonzero(splits == b)
        i, j = near_pairs(hashes[rows], hashes[columns])
        counts[f"{a} – {b}"] = len(i)
        examples[f"{a} – {b}"] = f"{names[rows[i[0]]]} ≈ {names[columns[j[0]]]}" if len(i) else ""
    return counts, examples
