"""What a run is: other data, settings, precision or code are another one; comments are not."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from torch import nn

from helpers import ROOT
from helpers.data.batches import ArrayDataset
from helpers.engine.identity import describe_run, digest
from helpers.losses import class_cross_entropy
from helpers.training import CODE
from tests.training.tiny import make, rows_of, train

FINISHED = "1 of 1 epochs were finished before"
ANEW = "starts anew: its settings, data, network or code are new, and older runs stay"
MINE = '''
import torch
from torch import nn


class Mine(nn.Module):
    """A network of one's own."""

    slope = 0.0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    @staticmethod
    def scaled(x):
        return 1.0 * x

    def forward(self, x):
        return torch.relu(self.conv(x))  # (N, 3, H, W)
'''
TRAIN = """
from helpers.losses import class_cross_entropy
from helpers.tasks import Segmentation
from tests.training.tiny import make, train


class Smoothed(Segmentation):
    def loss(self, logits, target):
        return class_cross_entropy(logits, target, label_smoothing=0.1)


unet, task, data = make(epochs=1)
task = Smoothed(data, task.settings)
torch.manual_seed(0)
print(train(Mine(), task, data, log=print, folder="runs"))
"""
UNET = """
print(train(unet, task, data, log=print, folder="runs"))
"""


def edited(text, old, new):
    assert text.count(old) == 1
    return text.replace(old, new)


COMMENTED = edited(MINE, "# (N, 3, H, W)", "# any comment")
COMMENTED = edited(COMMENTED, "A network of one's own.", "Another docstring.")
COMMENTED = edited(COMMENTED, "torch.relu(self.conv(x))", "torch.relu( self.conv(x) )")


def test_edits_in_the_cells_of_a_notebook_start_a_run_anew_and_comments_do_not(tmp_path):
    edits = [
        (MINE, TRAIN),
        (COMMENTED, TRAIN),
        (edited(MINE, "torch.relu(", "nn.functional.gelu("), TRAIN),
        (edited(MINE, "slope = 0.0", "slope = 0.1"), TRAIN),
        (edited(MINE, "return 1.0 * x", "return 2.0 * x"), TRAIN),
        (MINE, edited(TRAIN, "label_smoothing=0.1", "label_smoothing=0.2")),
    ]
    cells = [new_code_cell(source) for edit in edits for source in edit]
    resources = {"metadata": {"path": tmp_path}}  # where it runs
    client = NotebookClient(new_notebook(cells=cells), kernel_name="python3", resources=resources)
    printed = []
    for cell in client.execute().cells[1::2]:
        texts = [output.text for output in cell.outputs if output.get("name") == "stdout"]
        printed.append("".join(texts).splitlines())
    first, commented, *others = printed
    assert FINISHED in commented[0] and commented[-1] == first[-1]
    assert all(ANEW in lines[0] for lines in others)


def test_edits_of_helper_files_between_two_scripts_start_a_run_anew_and_comments_do_not(tmp_path):
    """With torch outside site-packages, as in a module system: it looks like the user's code."""
    shutil.copytree(ROOT / "helpers", tmp_path / "helpers")
    for name in ("tests", "pyproject.toml", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    site = str(Path(torch.__file__).parents[1])
    first_on_the_path = f"import sys; sys.path.insert(1, {site!r})\n"

    def edit(file, old, new):
        path = tmp_path / "helpers" / file
        path.write_text(edited(path.read_text(), old, new))

    def run(mine):
        """What is printed for a network of one's own, and for the U-Net."""
        script = tmp_path / "script.py"
        script.write_text(first_on_the_path + mine + TRAIN + "print('U-Net')" + UNET)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), site])}
        command = [sys.executable, script]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("U-Net\n")

    first = run(MINE)
    edit("losses.py", '"""Mean cross-entropy of', '"""The mean cross-entropy of')
    commented = run(COMMENTED)
    for before, after in zip(first, commented, strict=True):
        assert FINISHED in after and after.splitlines()[-1] == before.splitlines()[-1]
    edit("models/unet.py", "F.max_pool2d(", "F.avg_pool2d(")
    mine, unet = run(edited(MINE, "torch.relu(", "nn.functional.gelu("))
    assert ANEW in mine and ANEW in unet
    edit("augment.py", "def augment(", "AT_MOST = 3\n\n\ndef augment(")
    mine, unet = run(MINE)
    assert ANEW in mine and ANEW in unet


def described(model=None, data=None, loss=None, activation=None, precision="no", **settings):
    """The digest of the usual run, or of one with these changes."""
    usual, task, usual_data = make(**settings)
    model = model or usual
    data = data or usual_data
    if loss:
        task.loss = loss
    if activation:
        model.down[0][2] = activation
    return digest(describe_run(model, task, data.train, data.valid, precision, CODE))


def changed(which, part):
    """The usual data with one pixel, of an image or a mask, of one of its sets changed."""
    _, _, data = make()
    old = getattr(data, part)
    arrays = {"images": old.images.copy(), "targets": old.targets.copy()}
    arrays[which][3, 2, 1] ^= 1
    setattr(data, part, ArrayDataset(**arrays, names=old.names))
    return data


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight


def test_every_change_of_data_precision_settings_or_code_is_another_run():
    with_number, *_ = make()
    with_number.alpha = 0.5
    smoothed = partial(class_cross_entropy, label_smoothing=0.1)
    smoother = partial(class_cross_entropy, label_smoothing=0.2)
    found = {
        "nothing": described(),
        "a pixel of a training image": described(data=changed("images", "train")),
        "a pixel of a training mask": described(data=changed("targets", "train")),
        "a pixel of a validation mask": described(data=changed("targets", "valid")),
        "the precision": described(precision="bf16"),
        "a setting": described(lr=0.1),
        "skips": described(make("unet_no_skips")[0]),
        "a number that a model holds": described(with_number),
        "a module": described(activation=nn.LeakyReLU(0.1)),
        "a module's argument": described(activation=nn.LeakyReLU(0.2)),
        "a loss": described(loss=lambda logits, target: logits.mean()),
        "another loss": described(loss=lambda logits, target: logits.sum()),
        "a loss with an argument": described(loss=smoothed),
        "a loss with another argument": described(loss=smoother),
        "a module as loss": described(loss=Weighted(1.0)),
        "another module as loss": described(loss=Weighted(2.0)),
    }
    assert len(set(found.values())) == len(found), found


def test_file_names_training_and_evaluation_change_no_run():
    model, _, data = make()
    model.train()(torch.rand(2, 3, 32, 32))
    model.eval()
    data.train = ArrayDataset(data.train.images, data.train.targets, ["renamed"] * len(data.train))
    assert described(model, data) == described()


def test_the_order_of_images_and_their_classes_count():
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8)
    classes = np.arange(4)
    sets = [
        (images, classes),
        (images[::-1], classes),
        (images, classes[::-1]),
        (images[:3], classes),
    ]
    assert len({ArrayDataset(*arrays, names=list("abcd")).digest() for arrays in sets}) == 4


def test_a_run_is_found_whatever_its_folder_is_called(tmp_path):
    rows = rows_of(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("segmentation-unet-")
    folder.rename(tmp_path / folder.name.replace("unet", "my favourite"))
    lines = []
    assert rows_of(tmp_path, log=lines.append) == rows
    assert "4 of 4 epochs were finished before" in lines[0] and len(list(tmp_path.iterdir())) == 1


def test_more_epochs_go_on_after_those_of_a_shorter_run_and_end_in_the_same_bits(tmp_path):
    steady = {"schedule": "constant"}
    rows_of(tmp_path, epochs=2, **steady)
    rows_of(tmp_path, epochs=3, **steady)
    lines = []
    longer = rows_of(tmp_path, epochs=5, log=lines.append, **steady)
    assert "3 of 5 epochs were finished before" in lines[0]
    assert longer == rows_of(None, epochs=5, **steady)
    assert len(list(tmp_path.glob("*/last.pt"))) == 3, "the shorter runs stay"


@pytest.mark.parametrize("changes", [
    {"schedule": "linear"},
    {"schedule": "constant", "augment": None},
])  # fmt: skip
def test_more_epochs_of_a_run_whose_schedule_ended_start_anew_and_say_why(changes, tmp_path):
    rows_of(tmp_path, epochs=2, **changes)
    lines = []
    rows = rows_of(tmp_path, epochs=3, log=lines.append, **changes)
    assert "whose schedule ended with its last epoch: to go on from there" in lines[0]
    assert rows == rows_of(None, epochs=3, **changes)


def test_a_run_that_begins_with_the_weights_of_another_is_a_run_of_its_own(tmp_path):
    rows = rows_of(tmp_path)
    (first,) = tmp_path.iterdir()
    again = train(*make(), folder=tmp_path, start=first)
    assert again[0]["train_loss"] < rows[0]["train_loss"]
    assert train(*make(), folder=tmp_path, start=first) == again, "it is found again"
    assert rows_of(tmp_path) == rows and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="holds another network"):
        train(*make("unet_no_skips"), start=first)
