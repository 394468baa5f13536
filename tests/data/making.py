"""Small data sets on disk, whole ones, for tests to break."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth colourful picture, unlike that of any other seed."""
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


def make_birds(root: Path, species=("HOUSE FINCH", "OVENBIRD"), train: int = 6) -> Path:
    seed = 0
    for split, count in (("train", train), ("valid", 2), ("test", 2)):
        for name in species:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                photo(seed := seed + 1).save(folder / f"{i + 1}.jpg")
    return root


def make_streets(root: Path, frames: int = 10, folders=("dataA",), name="02_00_{:03}") -> Path:
    for k, folder in enumerate(folders):
        for side in ("CameraRGB", "CameraSeg"):
            (root / folder / side).mkdir(parents=True)
        for i in range(frames):
            file = name.format(i) + ".png"
            photo(1000 * k + i).save(root / folder / "CameraRGB" / file)
            mask_image(mask(i)).save(root / folder / "CameraSeg" / file)
    return root


def mask(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(0, 13, (height // 4, width // 4), dtype=np.uint8)
    return np.kron(ids, np.ones((4, 4), dtype=np.uint8))


def mask_image(ids: np.ndarray) -> Image.Image:
    """Ids in the red channel, as Lyft stores them."""
    red = np.zeros((*ids.shape, 3), dtype=np.uint8)
    red[..., 0] = ids
    return Image.fromarray(red)


def make_landscapes(root: Path, count: int = 12) -> Path:
    root.mkdir(parents=True)
    for i in range(count):
        width, height = ((64, 48), (48, 64), (80, 40))[i % 3]
        photo(i, width, height).save(root / f"photo_{i:02}.jpg")
    return root


def snapshot(root: Path) -> dict:
    """Everything about a folder that could have been changed."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mtime_ns,
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }
