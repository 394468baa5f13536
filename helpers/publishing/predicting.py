"""What a trained network says of images of one's own, at their own size."""

import glob
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from helpers import REPORTS
from helpers.colour import put_lightness_back, rgb_to_grey, to_float
from helpers.data.batches import ArrayDataset
from helpers.data.decode import explain, open_image, to_rgb
from helpers.data.listing import walk
from helpers.engine.files import DataError, written_beside
from helpers.image_figures import paint
from helpers.training import forward, load

MADE = "python -m helpers predict"  # is written into the images, so that they may be replaced
BEST = 5  # species in the table
ROWS = 256  # of a large photo that are coloured at once, so that memory holds them


class Answer(NamedTuple):
    """What a network says of one image.

    ``answer`` is as ``helpers.training.predict`` gives it, at the size of the run. ``full`` is at
    the image's own size: probabilities (C,), class ids uint8 (H, W), or RGB uint8 (H, W, 3).
    """

    file: str
    seen: np.ndarray  # uint8 (h, w, 3), as the run prepares images
    answer: torch.Tensor
    own: np.ndarray  # uint8 (H, W, 3), the whole image; None for classification
    full: np.ndarray


def predict(images, task="segmentation", run=None):
    """A trained network's answers: a list with an ``Answer`` for each of ``images``.

    Args:
        images: files, folders of images, or uint8 arrays (H, W, 3).
        task: classification, segmentation or colorization.
        run: the folder of a run, or of several, of which the newest is taken. None: the last
            network that was trained for this task.

    Raises:
        DataError: there is no such run, or an image cannot be used.
    """
    model, task = load(find_run(task, run))
    if isinstance(images, str | Path | np.ndarray):
        images = [images]
    answers = []
    for image in images:
        files = [image] if isinstance(image, np.ndarray) else find_images([image])
        answers += [answer_to(model, task, file) for file in files]
    return answers


def find_run(task, run=None, model="*"):
    """The folder of the newest run of a task at or below ``run``, or of all in ``REPORTS``."""
    place = REPORTS
    if run is not None:
        place = Path(run).expanduser().absolute()
    states = list(place.rglob(f"{task}-{model}-????????/last.pt"))
    if (place / "last.pt").exists():
        states = [place / "last.pt"]
    if not states:
        option = "" if model == "*" else f" --model {model}"
        raise DataError(
            f"{place} holds no trained network for {task}: train one with "
            f"python -m helpers train {task}{option}, or name its folder with --run"
        )
    return max(states, key=lambda state: state.stat().st_mtime).parent


def find_images(images):
    """The files that are named: files, those in folders, and those that fit patterns as *.jpg."""
    files = []
    for named in images:
        path = Path(named).expanduser()
        fitting = sorted(map(Path, glob.glob(str(path))))
        if path.is_dir():
            stamps, _ = walk(path)
            files += [path / name for name in stamps]
        elif path.is_file():
            files.append(path)
        elif fitting:
            files += fitting
        else:
            raise DataError(f"{path} is not there: give image files, or a folder of them")
    return files


def read(task, image):
    """An image as the run prepares it, and as it is, both RGB; of species only the former.

    Landscapes are not cropped: the shorter side gets its size, and the other one follows.
    """
    height, width = task.settings.size
    if isinstance(image, np.ndarray):
        small = own = Image.fromarray(image).convert("RGB")
    else:
        small = own = to_rgb(open_image(image, None if task.stride == 1 else max(height, width)))
    if task.name == "segmentation":
        return own.resize((width, height), Image.Resampling.BILINEAR), own
    if task.name == "classification":
        return ImageOps.fit(small, (width, height), Image.Resampling.BILINEAR), None
    scale = max(width / small.width, height / small.height)
    sides = round(small.width * scale), round(small.height * scale)
    return small.resize(sides, Image.Resampling.BILINEAR), own


@torch.no_grad()
def answer_to(model, task, image):
    """The ``Answer`` to one image, a file or an array. Raises DataError where it is none."""
    name = "array" if isinstance(image, np.ndarray) else str(image)
    try:
        small, own = read(task, image)
    except DataError:
        raise
    except Exception as error:  # whatever a decoder raises, the file is bad
        raise DataError(f"{name} {explain(image, error)}") from error
    seen = np.asarray(small)
    dataset = ArrayDataset(seen[None], None, [name])
    ((inputs, _, logits),) = forward(model, task, dataset, shared=False)
    answer = task.predict(logits, inputs)[0].cpu()
    if task.name == "classification":
        return Answer(name, seen, answer, None, answer.numpy())
    own = np.asarray(own)
    if task.name == "segmentation":
        full = most_likely(logits[0].cpu(), own.shape[:2])
    else:
        full = coloured(answer, own)
    return Answer(name, seen, answer, own, full)


def most_likely(logits, size):
    """The class with the largest of the enlarged logits (C, h, w), class by class: ids (H, W)."""
    best = torch.full(size, -torch.inf)
    ids = torch.zeros(size, dtype=torch.uint8)
    for number, one in enumerate(logits):
        enlarged = F.interpolate(one[None, None], size, mode="bilinear")[0, 0]
        larger = enlarged > best
        ids[larger] = number
        best = best.maximum(enlarged)
    return ids.numpy()


def coloured(answer, own):
    """An answer (3, h, w) at the size of the photo ``own`` (H, W, 3): RGB uint8.

    An enlarged answer is blurred. So it gives the colours alone, and the photo its lightness.
    """
    full = np.empty_like(own)
    enlarged = answer[None]
    if answer.shape[1:] != own.shape[:2]:
        enlarged = F.interpolate(enlarged, own.shape[:2], mode="bilinear")
    for top in range(0, len(own), ROWS):
        rows = slice(top, top + ROWS)
        rgb = enlarged[:, :, rows]
        if answer.shape[1:] != own.shape[:2]:
            photo = to_float(torch.from_numpy(own[rows]).permute(2, 0, 1)[None])
            rgb = put_lightness_back(rgb, rgb_to_grey(photo))
        full[rows] = (255 * rgb[0].permute(1, 2, 0)).round().byte().numpy()
    return full


def predict_files(images, task, run=None, out=None):
    """Write the answers to images, and a table of them, as ``python -m helpers predict`` does.

    An image that cannot be used is told at the end, when the others are done.

    Raises:
        DataError: some could not be used; a file of somebody else would be overwritten.
    """
    files = find_images(images)
    folder = find_run(task, run)
    model, task = load(folder)
    out = out or Path("predictions", folder.name)
    print(f"Answers of {folder}, into {out}", flush=True)
    rows = []
    faults = []
    names = set()
    for file in files:
        try:
            answer = answer_to(model, task, file)
        except DataError as error:
            faults.append(str(error))
            continue
        name = file.stem
        while name in names:  # of a file in another folder, or with another suffix
            name += "_"
        names.add(name)
        rows.append({"file": str(file), **write_answer(task, answer, out, name)})
    if rows:
        table = pd.DataFrame(rows)
        with written_beside(ours(out / "predictions.csv")) as beside:
            table.to_csv(beside, index=False)
        print(table.to_string(index=False, max_cols=6, max_colwidth=60))
    if faults:
        raise DataError(f"{len(faults)} of {len(files)} files were left out. {'; '.join(faults)}")


def write_answer(task, answer, out, name):
    """Write the images of one answer; returns its columns in the table."""
    if task.name == "classification":
        columns = {}
        for place, number in enumerate(answer.full.argsort()[::-1][:BEST], 1):
            columns[f"species {place}"] = task.classes[number]
            columns[f"probability {place}"] = round(float(answer.full[number]), 4)
        return columns
    if task.name == "colorization":
        write_png(out / f"{name}_coloured.png", Image.fromarray(answer.full))
        return {"coloured": f"{name}_coloured.png"}
    shares = np.bincount(answer.full.ravel(), minlength=task.outputs) / answer.full.size
    ids = np.array(task.ids, np.uint8)
    write_png(out / f"{name}_mask.png", Image.fromarray(ids[answer.full]))
    write_png(out / f"{name}_overlay.png", overlay(task, answer, shares))
    return {label: round(share, 4) for label, share in zip(task.classes, shares, strict=True)}


def overlay(task, answer, shares):
    """The image with the colours of its classes laid over, and a key with their shares below."""
    mixed = Image.blend(
        Image.fromarray(answer.own), Image.fromarray(paint(answer.full, task.palette)), 0.5
    )
    letter = max(11, mixed.width // 50)
    font = ImageFont.load_default(letter)
    line = 3 * letter // 2
    occurring = np.argsort(-shares)[: np.count_nonzero(shares)]
    page = Image.new("RGB", (mixed.width, mixed.height + line * len(occurring) + letter), "white")
    page.paste(mixed)
    pen = ImageDraw.Draw(page)
    for number, key in enumerate(occurring):
        top = mixed.height + letter // 2 + number * line
        pen.rectangle((letter, top, 3 * letter, top + letter), tuple(task.palette[key]), "black")
        pen.text((4 * letter, top), f"{task.classes[key]}  {shares[key]:.1%}", "black", font)
    return page


def write_png(path, image):
    about = PngImagePlugin.PngInfo()
    about.add_text("Software", MADE)
    with written_beside(ours(path)) as beside:
        image.save(beside, "PNG", pnginfo=about)


def ours(path):
    """``path``, unless a file is there that ``predict`` has not written: then DataError."""
    if not path.exists():
        return path
    try:
        if path.suffix == ".csv":
            known = path.read_text(encoding="utf-8").startswith("file,")
        else:
            with Image.open(path) as image:
                known = image.info.get("Software") == MADE
    except (OSError, ValueError):
        known = False
    if not known:
        raise DataError(f"{path} was not written by predict: give another folder with --out")
    return path
