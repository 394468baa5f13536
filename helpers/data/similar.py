"""Near-duplicates: images whose perceptual hashes differ in a few bits."""

import itertools

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .listing import SPLITS

# Bits of 64: near-duplicates in the real sets differ by 0 to 6, most strangers by 12 and more.
DISTANCE = 6
ROWS = 256  # hashes compared with all others at once, so that memory holds the table


def phash(image):
    """64 bits, as an int, that barely change when an image is resized or compressed.

    As phash of the ImageHash library: which of the lowest 8×8 frequencies of 32×32 grey pixels are
    above their median. Reducing first makes the resizing cheap.
    """
    reduced = image.reduce(max(1, min(image.size) // 32)).convert("L")
    small = reduced.resize((32, 32), Image.Resampling.LANCZOS)
    frequencies = dctn(np.asarray(small, dtype=np.float64))[:8, :8]
    bits = frequencies > np.median(frequencies)
    return int(np.packbits(bits).view(">u8")[0])


def near_pairs(a, b):
    """(P, 2) the indices into ``a`` and ``b``, uint64 hashes, of all pairs that look alike."""
    found = [np.empty((0, 2), dtype=int)]
    for start in range(0, len(a), ROWS):
        block = a[start : start + ROWS]
        alike = np.bitwise_count(block[:, None] ^ b[None]) <= DISTANCE  # (rows, len(b))
        found.append(np.argwhere(alike) + np.array([start, 0]))
    return np.concatenate(found)


def families(hashes):
    """(N,) for each of N hashes the number of its group of near-duplicates."""
    kinds, kind = np.unique(hashes, return_inverse=True)
    pairs = near_pairs(kinds, kinds)
    alike = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(kinds), len(kinds)))
    _, family = connected_components(alike, directed=False)
    return family[kind]


def across(hashes, splits, names):
    """{"train – test": (how many pairs look alike across these splits, the first of them)}."""
    found = {}
    for one, other in itertools.combinations(SPLITS, 2):
        rows = np.flatnonzero(splits == one)
        columns = np.flatnonzero(splits == other)
        pairs = near_pairs(hashes[rows], hashes[columns])
        example = ""
        if len(pairs):
            i, j = pairs[0]
            example = f"{names[rows[i]]} ≈ {names[columns[j]]}"
        found[f"{one} – {other}"] = (len(pairs), example)
    return found
