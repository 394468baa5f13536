"""Damaged files, by chance and a seed: ``python tests/benchmarks/fuzz.py [FILES] [SEED]``.

Each is cut, has some bits flipped, or gets another suffix. It must be read as it was, or be left
out and counted. A traceback, a wrong label or half an image is a fault. Only formats that check
nothing (JPEG, TIFF, WebP) may give an image that flipped bits have changed.
"""

import io
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from helpers.data import DataError, prepare  # noqa: E402
from tests.data.making import MAKE, make_streets, mask, mask_image, photo, sets  # noqa: E402

FORMATS = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"quality": 90},
}
PLACES = {
    "birds": "train/OVENBIRD/bad_{:03}",
    "streets": "dataA/CameraRGB/01_00_{:03}",
    "landscapes": "bad_{:03}",
}
SUFFIXES = (".jpg", ".png", ".tif", ".webp", ".bmp", ".tga", ".txt", "")
SIZE = (48, 64)


def make(name, root, files):
    """A sound set. Of streets so many frames that the damaged ones, the first, are in training."""
    return make_streets(root, 10 + files) if name == "streets" else MAKE[name](root)


def encoded(image, kind):
    file = io.BytesIO()
    image.save(file, kind, **FORMATS[kind])
    return file.getvalue()


def damaged(content, how, rng):
    if how == "cut":
        return content[: rng.integers(1, len(content))]
    content = bytearray(content)
    if how == "flipped":
        end = rng.choice([40, len(content)])  # half of them in the header
        for _ in range(rng.integers(1, 9)):
            content[rng.integers(end)] ^= 1 << rng.integers(8)
    return bytes(content)


def spoil(root, name, kind, files, rng):
    """Add damaged files to a sound set: {path: (how it was damaged, whether it is a mask)}."""
    done = {}
    suffix = "." + kind.lower().replace("jpeg", "jpg")
    for i in range(files):
        how = ("cut", "flipped", "renamed")[i % 3]
        place = PLACES[name].format(i)
        contents = {place: photo(500 + i)}
        if name == "streets":
            contents[place.replace("RGB", "Seg")] = mask_image(mask(i))
        in_mask = name == "streets" and kind in ("PNG", "TIFF") and i % 2 == 1
        for number, (path, image) in enumerate(contents.items()):
            mine = number == in_mask
            saved = kind if mine else "PNG"
            content = encoded(image, saved)
            end = suffix if mine else ".png"
            if mine:
                content = damaged(content, how, rng)
                if how == "renamed":
                    end = rng.choice(SUFFIXES)
                done[path + end] = (how, in_mask)
            (root / (path + end)).write_bytes(content)
    return done


def rows_of(data):
    """{path: (image, target)} of all that was read."""
    found = {}
    for one in sets(data).values():
        targets = [None] * len(one) if one.targets is None else one.targets
        for name, image, target in zip(one.names, one.images, targets, strict=True):
            found[name] = (np.asarray(image).astype(int), target)
    return found


def judge(name, kind, path, how, in_mask, rows, left_out):
    """What became of one damaged file. AssertionError: a fault."""
    image_path = path
    if in_mask:
        stem = path.replace("Seg", "RGB").rpartition("_")[0] + "_"
        number = path.rpartition("_")[2].partition(".")[0]
        image_path = f"{stem}{number}.png"
    if image_path not in rows:
        assert any(number_of(path) == number_of(file) for file in left_out), f"{path} is lost"
        return "left out"
    image, target = rows[image_path]
    number = number_of(path)
    wanted = np.asarray(photo(500 + number)).astype(int)
    changed = np.abs(image - wanted).mean() > 8
    if name == "birds":
        assert target == 1, f"{path} has another label"
    if name == "streets":
        changed = changed or (np.asarray(target) != mask(number)).any()
    assert not changed or (how == "flipped" and kind != "PNG"), f"{path}, {how}, is read changed"
    return "read, changed" if changed else "read"


def number_of(path):
    return int(Path(path).name.rpartition("_")[2].partition(".")[0] or -1)


def fuzz_images(folder, files, seed):
    """Yield (set, format, Counter of what became of its damaged files)."""
    for name in MAKE:
        for kind in FORMATS:
            rng = np.random.default_rng(seed)
            root = make(name, folder / f"{name}-{kind}", files)
            done = spoil(root, name, kind, files, rng)
            data = prepare(name, root, size=SIZE, skip_bad=True, root=folder / "data")
            rows = rows_of(data)
            left_out = [entry.file for entry in data.inventory.left_out if "_" in entry.file]
            told = Counter()
            for path, (how, in_mask) in done.items():
                told[how, judge(name, kind, path, how, in_mask, rows, left_out)] += 1
            yield name, kind, told


def fuzz_archives(folder, files, seed):
    """As ``fuzz_images``, of archives that are damaged as a whole."""
    for name in MAKE:
        rng = np.random.default_rng(seed)
        root = make(name, folder / f"{name}-zip", 0)
        whole = folder / f"{name}.zip"
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in root.rglob("*.*g"):
                archive.write(path, path.relative_to(root))
        wanted = rows_of(prepare(name, whole, size=SIZE, root=folder / "data"))
        told = Counter()
        for i in range(files):
            how = ("cut", "flipped", "renamed")[i % 3]
            spoilt = folder / f"{name}_{i}{rng.choice(SUFFIXES) if how == 'renamed' else '.zip'}"
            spoilt.write_bytes(damaged(whole.read_bytes(), how, rng))
            try:
                rows = rows_of(prepare(name, spoilt, size=SIZE, root=folder / f"data{i}"))
            except DataError as error:
                assert str(spoilt) in str(error) or "bad" in str(error), error
                told[how, "refused"] += 1
                continue
            for path, (image, target) in rows.items():
                assert (image == wanted[path][0]).all(), f"{spoilt}: {path} is changed"
                assert np.array_equal(target, wanted[path][1]), f"{spoilt}: {path} has other labels"
            told[how, "read" if rows.keys() == wanted.keys() else "read in part"] += 1
        yield name, "zip", told


def main():
    numbers = [int(text) for text in sys.argv[1:]]
    files = numbers[0] if numbers else 200
    seed = numbers[1] if numbers[1:] else 0
    warnings.simplefilter("ignore")  # Pillow's, about damaged metadata
    with tempfile.TemporaryDirectory() as folder:
        for fuzz in (fuzz_images, fuzz_archives):
            for name, kind, told in fuzz(Path(folder), files, seed):
                counts = ", ".join(
                    f"{how} → {what}: {n}" for (how, what), n in sorted(told.items())
                )
                print(f"{name:10} {kind:4} {counts}", flush=True)


if __name__ == "__main__":
    main()
