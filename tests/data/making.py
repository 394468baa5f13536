"""Small data sets on disk, whole ones, for tests to break."""

import hashlib

import numpy as np
from PIL import Image


def photo(seed, width=64, height=48):
    """A smooth colourful image, unlike that of any other seed."""
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


def make_birds(root, species=("HOUSE FINCH", "OVENBIRD"), train=6):
    seed = 0
    for split, count in (("train", train), ("valid", 2), ("test", 2)):
        for name in species:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                seed += 1
                photo(seed).save(folder / f"{i + 1}.jpg")
    return root


def make_streets(root, frames=10, folders=("dataA",), name="02_00_{:03}"):
    for k, folder in enumerate(folders):
        for side in ("CameraRGB", "CameraSeg"):
            (root / folder / side).mkdir(parents=True)
        for i in range(frames):
            file = name.format(i) + ".png"
            photo(1000 * k + i).save(root / folder / "CameraRGB" / file)
            mask_image(mask(i)).save(root / folder / "CameraSeg" / file)
    return root


def mask(seed, width=64, height=48):
    ids = np.random.default_rng(seed).integers(0, 13, (height // 4, width // 4), dtype=np.uint8)
    return np.kron(ids, np.ones((4, 4), dtype=np.uint8))


def mask_image(ids):
    """Ids in the red channel, as Lyft stores them."""
    return Image.fromarray(ids[..., None] * np.uint8([1, 0, 0]))


def make_landscapes(root, count=12):
    root.mkdir(parents=True)
    for i in range(count):
        width, height = ((64, 48), (48, 64), (80, 40))[i % 3]
        photo(i, width, height).save(root / f"photo_{i:02}.jpg")
    return root


MAKE = {"birds": make_birds, "streets": make_streets, "landscapes": make_landscapes}


def sets(data):
    return {"train": data.train, "valid": data.valid, "test": data.test}


def count(data):
    return sum(len(one) for one in sets(data).values())


def snapshot(root):
    """Everything about a folder that could have been changed."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[path] = (status.st_mtime_ns, status.st_mode, hashlib.sha256(content).digest())
    return found
