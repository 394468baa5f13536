"""What a trained network says of images of one's own, at their own size."""

import glob
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.font_manager import findfont
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from helpers import REPORTS, plural
from helpers.colour import put_lightness_back, rgb_to_grey, to_float
from helpers.data.batches import ArrayDataset
from helpers.data.decode import explain, open_image, to_rgb
from helpers.data.listing import sum_up, walk
from helpers.data.masks import SPARE
from helpers.engine.checkpoint import read_checkpoint
from helpers.engine.files import DataError, written_beside
from helpers.figures import fonts_with
from helpers.image_figures import class_key, paint, to_image
from helpers.training import forward, load

MADE = "python -m helpers predict"  # is written into the images, so that they may be replaced
TABLES = {"classification": "predictions", "segmentation": "shares", "colorization": "coloured"}
BILINEAR = Image.Resampling.BILINEAR
BEST = 5  # species in the table
ROWS = 256  # of a large photo that are coloured at once, so that memory holds them


class Answer(NamedTuple):
    """What a network says of one image.

    ``answer`` is as ``helpers.training.predict`` gives it, at the size of the run. ``full`` is at
    the image's own size: probabilities (C,), class ids uint8 (H, W), or RGB uint8 (H, W, 3).
    """

    file: str
    image: np.ndarray  # uint8 (h, w, 3), as the run prepares images
    answer: torch.Tensor
    full: np.ndarray
    own: np.ndarray  # uint8 (H, W, 3), the whole image; for classification as ``image``


def predict(images, task="segmentation", run=None):
    """A trained network's answers: a list with an ``Answer`` for each of ``images``.

    Args:
        images: one or several: files, folders of images, PIL images, or uint8 arrays (H, W, 3).
        task: classification, segmentation or colorization.
        run: the folder of a run, or of several, of which the newest is taken. None: the last
            network that was trained for this task.

    Raises:
        DataError: there is no such run, or a file cannot be used: then nothing is answered.
        TypeError: an array is no image.
    """
    _, model, task = load_run(task, run)
    if isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", 4) < 4:
        images = [images]
    found, faults = find_images(images)
    if faults:
        raise DataError("; ".join(faults))
    return [answer_to(model, task, image) for image in found]


def load_run(task, run=None, model=None):
    """(folder, network, task) of the run that ``find_run`` finds, and a line that tells of it."""
    folder = find_run(task, run, model)
    state = read_checkpoint(folder / "last.pt")
    about = state["about"]
    trained_for = about["task"]["name"]
    if trained_for != task or model not in (None, about["model"]):
        raise DataError(
            f"{folder} holds {about['model'] or 'a network'} for {trained_for}: "
            "give another one with --run"
        )
    done = len(state["history"])
    wanted = about["task"]["settings"]["epochs"]
    epochs = plural(wanted, "epoch")
    if done < wanted:
        epochs = f"{done} of {epochs}"
    print(f"{folder}: {epochs} on {about['data'] or 'data of your own'}", flush=True)
    return folder, *load(folder)


def find_run(task, run=None, model=None):
    """The folder of the newest run of a task at or below ``run``, or of all in ``REPORTS``.

    Of several, those count that have finished an epoch.
    """
    place = Path(run or REPORTS).expanduser().absolute()
    if (place / "last.pt").exists():
        return place
    tables = list(place.rglob(f"{task}-{model or '*'}-????????/history.csv"))
    if not tables:
        raise DataError(
            f"{place} holds no trained {model or 'network'} for {task}: train one with "
            f"python -m helpers train {task}, or name the folder of a run"
        )
    return max(tables, key=lambda table: table.stat().st_mtime).parent


def find_images(images):
    """(images, faults): files, those in folders and of patterns; a sentence on each bad file."""
    found = []
    faults = []
    for named in images:
        if not isinstance(named, str | Path):
            found.append(named)
            continue
        path = Path(named).expanduser()
        places = []
        if not path.exists():
            places = sorted(map(Path, glob.glob(str(path), recursive=True)))
        for place in places or [path]:
            if not place.is_dir():
                found.append(place)
                continue
            try:
                stamps, left_out = walk(place)
            except DataError as error:
                faults.append(str(error))
                continue
            found += [place / name for name in stamps if not is_ours(place / name)]
            faults += [f"{place}/{one.file} {one.reason}" for one in left_out if one.bad]
            if left_out:
                print(f"Left out: {sum_up(left_out, place)}")
    return found, faults


def read(task, image):
    """An image as the run prepares it, and as it is, both RGB; of species only the former, twice.

    Landscapes are not cropped: the shorter side gets its size, and the other one follows.
    """
    size = task.settings.size[::-1]
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)

    def decoded(least=None):
        if isinstance(image, Image.Image):
            return to_rgb(image)
        return to_rgb(open_image(image, least))

    if task.name == "segmentation":
        own = decoded()
        return own.resize(size, BILINEAR), own
    small = decoded(max(size))  # as in training
    if task.name == "colorization":
        return ImageOps.cover(small, size, BILINEAR), decoded()
    small = ImageOps.fit(small, size, BILINEAR)
    return small, small


@torch.no_grad()
def answer_to(model, task, image):
    """The ``Answer`` to one image, in a file or in memory. Raises DataError for a bad file."""
    name = str(image) if isinstance(image, Path) else "array"
    try:
        small, own = read(task, image)
    except Exception as error:  # whatever a decoder raises, the file is bad
        if not isinstance(image, Path):
            raise
        raise DataError(f"{name} {explain(image, error)}") from error
    seen = np.array(small)
    own = np.asarray(own)
    dataset = ArrayDataset(seen[None], None, [name])
    ((inputs, _, logits),) = forward(model, task, dataset, shared=False)
    answer = task.predict(logits, inputs)[0].cpu()
    if task.name == "segmentation":
        full = most_likely(logits[0].cpu(), own.shape[:2])
    elif task.name == "colorization":
        full = coloured(answer, own)
    else:
        full = answer.numpy()
    return Answer(name, seen, answer, full, own)


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
    size = own.shape[:2]
    full = np.empty_like(own)
    enlarged = F.interpolate(answer[None], size, mode="bilinear")
    for top in range(0, len(own), ROWS):
        rows = slice(top, top + ROWS)
        rgb = enlarged[:, :, rows]
        if answer.shape[1:] != size:
            photo = to_float(torch.tensor(own[rows])).permute(2, 0, 1)[None]
            rgb = put_lightness_back(rgb, rgb_to_grey(photo))
        full[rows] = to_image(rgb[0])
    return full


def predict_files(images, task, run=None, out=None):
    """Write the answers to images, and a table of them, as ``python -m helpers predict`` does.

    Those of one stem get a "_" more; the table's column ``answer`` tells. Rows of earlier calls
    stay, and a file that is answered again replaces its own. A file that cannot be used is told
    at the end, when the others are done. In folders, images that ``predict`` has written are
    passed over.

    Raises:
        DataError: some could not be used; a file of somebody else would be overwritten.
    """
    folder, model, task = load_run(task, run)
    files, faults = find_images(images)
    out = out or Path("predictions", folder.name)
    place = ours(out / f"{TABLES[task.name]}.csv")
    earlier = pd.DataFrame(columns=["file", "answer", "run"])
    if place.exists():
        earlier = pd.read_csv(place, dtype={"file": str, "answer": str})
    # The file of each name, in small letters, which are the same as large ones to some systems.
    names = dict(zip(earlier.answer.str.casefold(), earlier.file, strict=True))
    rows = []
    for file in files:
        name = file.stem
        # It may be that of a file in another folder, or with another suffix.
        while names.setdefault(name.casefold(), str(file)) != str(file):
            name += "_"
        try:
            columns = write_answer(task, answer_to(model, task, file), out, name)
        except DataError as error:
            faults.append(str(error))
            continue
        rows.append({"file": str(file), **columns, "answer": name, "run": folder.name})
    if rows:
        table = pd.DataFrame(rows)
        others = earlier[~earlier.file.isin(table.file)]
        both = pd.concat([others, table])
        both = both[[*both.columns.drop("run"), "run"]]  # last, see ``is_ours``
        with written_beside(place) as beside:
            both.to_csv(beside, index=False, errors="backslashreplace")
        shown = table.drop(columns=task.classes, errors="ignore")  # the shares are too many
        print(shown.to_string(index=False, line_width=100, max_colwidth=60))
    print(f"{plural(len(rows), 'image')} answered, in {out}")
    if faults:
        raise DataError(f"{plural(len(faults), 'file')} not answered: {'; '.join(faults)}")


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
        return {}
    ids = np.array(task.ids, np.uint8)
    write_png(out / f"{name}_mask.png", Image.fromarray(ids[answer.full]))
    write_png(out / f"{name}_overlay.png", overlay(task, answer))
    shares = np.bincount(answer.full.ravel(), minlength=task.outputs) / answer.full.size
    return dict(zip(task.classes, shares.round(4), strict=True))


def overlay(task, answer):
    """The image with the colours of its classes laid over, and a key of them below."""
    palette = task.palette or [ImageColor.getrgb(colour) for colour in SPARE[: task.outputs]]
    mixed = answer.own // 2 + paint(answer.full, palette) // 2
    names = [f"{number} {name}" for number, name in zip(task.ids, task.classes, strict=True)]
    key = class_key(answer.full, names, palette)
    letter = max(11, mixed.shape[1] // 50)
    families = fonts_with(frozenset(f"a{''.join(key)}"))  # the last one has what others lack
    font = ImageFont.truetype(findfont(families[-1]), letter)
    page = ImageOps.expand(Image.fromarray(mixed), (0, 0, 0, 2 * letter * len(key)), "white")
    pen = ImageDraw.Draw(page)
    top = len(mixed) + letter // 2
    for label, colour in key.items():
        pen.rectangle((0, top, letter, top + letter), tuple(colour), "black")
        pen.text((2 * letter, top), label, "black", font)
        top += 2 * letter
    return page


def write_png(path, image):
    about = PngImagePlugin.PngInfo()
    about.add_text("Software", MADE)
    with written_beside(ours(path)) as beside:
        image.save(beside, "PNG", pnginfo=about)


def ours(path):
    """``path``, unless a file is there that ``predict`` has not written: then DataError."""
    if path.exists() and not is_ours(path):
        raise DataError(f"{path} was not written by predict: give another folder with --out")
    return path


def is_ours(path):
    """Whether ``predict`` has written a file."""
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, nrows=0).columns[-1] == "run"
        with Image.open(path) as image:
            return image.info.get("Software") == MADE
    except Exception:  # whatever a decoder raises
        return False
