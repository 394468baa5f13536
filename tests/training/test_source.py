"""Edited code is another run: in a script, in a notebook, and whatever of the run was edited."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from torch import nn

from helpers import ROOT
from helpers.engine.source import Code
from helpers.models import UNet
from helpers.training import train_epoch
from tests.training.tiny import make, rows_of, train

MINE = '''
import torch
from torch import nn


def activation(x):
    return torch.relu(x)


class Mine(nn.Module):
    """A network of one's own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return activation(self.conv(x))  # (N, 3, H, W)
'''
TRAIN = """
import sys
import torch
from helpers import augment, training
from helpers.losses import class_cross_entropy
from tests.training.tiny import make, train

_, task, data = make(epochs=1, augment=0.5)
weight = torch.tensor([1.0, 1.0, 1.0])


def loss(logits, target):
    return class_cross_entropy(logits, target, weight=weight)


task.loss = loss
torch.manual_seed(0)
print(train(Mine(), task, data, log=print, folder=sys.argv[1]))
"""
UNET = """
from tests.training.tiny import rows_of
print("U-Net")
rows_of(sys.argv[1], epochs=1, log=print)
"""
EDITS = {  # what is edited, and what the line must name
    "a function that the network calls": (
        ("return torch.relu(x)", "return torch.nn.functional.gelu(x)"),
        "activation",
    ),
    "the network": (("return activation(self.conv(x))", "return self.conv(activation(x))"), "Mine.forward"),
    "the loss": (("weight=weight)", "weight=weight, label_smoothing=0.1)"), "loss"),
    "what the loss reads": (("torch.tensor([1.0,", "torch.tensor([5.0,"), "weight"),
}
SAME = [
    ("# (N, 3, H, W)", "# any comment"),
    ('"""A network of one\'s own."""', '"""Another docstring."""'),
    ("torch.relu(x)", "torch.relu( x )"),
]


def edited(text, *changes):
    for change in changes:
        assert text.count(change[0]) == 1
        text = text.replace(*change)
    return text


def check(first, again, others, edits):
    """Lines printed by a training, by it again with other words, and by it with each of the edits."""
    assert "1 of 1 epochs were finished before" in again[0] and again[-1] == first[-1]
    for lines, name in zip(others, (EDITS[edit][1] for edit in edits), strict=True):
        said = [line for line in lines if line.startswith("starts anew, since the code is not that of Mine-")]
        assert len(said) == 1 and name in said[0].split(":")[1], lines
        assert lines[-1] != first[-1], "the old weights or the old loss"


VERSIONS = [MINE + TRAIN, edited(MINE + TRAIN, *SAME), *(edited(MINE + TRAIN, e) for e, _ in EDITS.values())]


def test_edits_of_a_script_and_of_helper_files_between_two_runs_start_it_anew_and_are_named(tmp_path):
    copy, printed = tmp_path / "copy", []
    copy.mkdir()
    for name in ("helpers", "tests", "pyproject.toml"):
        (copy / name).symlink_to(ROOT / name)

    def edit(file, *change):
        """Give the copy a file of its own, with all folders above it."""
        at = copy
        for part in Path(file).parts:
            at = at / part
            if at.is_symlink():
                target = at.resolve()
                at.unlink()
                if target.is_dir():
                    at.mkdir()
                    for child in target.iterdir():
                        (at / child.name).symlink_to(child)
                else:
                    at.write_text(target.read_text())
        at.write_text(edited(at.read_text(), change))

    def run(text):
        (tmp_path / "mine.py").write_text(text + UNET)
        command = [sys.executable, str(tmp_path / "mine.py"), str(tmp_path / "runs")]
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        mine, unet = done.stdout.split("U-Net\n")
        printed.append(mine.splitlines())
        return unet

    run(VERSIONS[0])
    edit("helpers/losses.py", '"""Mean cross-entropy of', '"""The mean cross-entropy of')
    assert "1 of 1 epochs were finished before" in run(VERSIONS[1])
    edit("helpers/augment.py", "images.clamp(0, 1), target", "images.clamp(0, 0.9), target")
    edit("helpers/models/unet.py", "nn.ReLU(inplace=True)", "nn.GELU()")
    once = "return F.cross_entropy(logits, target.long(),"
    edit("helpers/losses.py", once, once.replace("return", "return 2 *"))
    edits = list(EDITS)[1:3]  # all at once: a start of Python takes seconds
    last = run(edited(VERSIONS[0], *(EDITS[edit][0] for edit in edits)))
    for name in edits:
        check(*printed[:2], printed[2:], [name])
    (said,) = (line for line in last.splitlines() if line.startswith("starts anew"))
    for name in ("augment.augment", "models.unet.double_conv", "losses.class_cross_entropy"):
        assert f"helpers.{name}" in said


def test_edits_of_network_or_loss_in_the_cells_of_a_notebook_start_it_anew_and_are_named(tmp_path):
    cells = [f"import sys; sys.argv = ['', {str(tmp_path / 'runs')!r}]"]
    for text in VERSIONS:  # the class in one cell, the training in another, one kernel for all
        cells += text.split("\nimport sys\n")
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    ran = NotebookClient(notebook, kernel_name="python3").execute().cells[2::2]
    printed = [
        "".join(output.text for output in cell.outputs if output.get("name") == "stdout").splitlines()
        for cell in ran
    ]
    check(printed[0], printed[1], printed[2:], EDITS)


def test_other_networks_losses_and_tasks_are_no_part_of_a_run():
    model, task, _ = make()
    parts = " ".join(Code(model, inputs=task.inputs, loss=task.loss, recipe=train_epoch).parts)
    for inside in (
        "unet.UNet.forward",
        "class_cross_entropy",
        "tasks.normalise",
        "tasks.MEAN",
        "training.step",
    ):
        assert inside in parts
    for outside in ("BasicBlock", "FCN", "channel_cross_entropy", "Colorization", "predict", "evaluate"):
        assert outside not in parts


def test_code_edited_after_its_import_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_net.py").write_text(MINE)
    import edited_net

    Code(edited_net.Mine())
    (tmp_path / "edited_net.py").write_text(MINE.replace("padding=1", "padding=2"))
    with pytest.raises(RuntimeError, match=r"edited_net\.py: Mine.__init__ was edited.*restart the kernel"):
        Code(edited_net.Mine())


def test_what_has_no_source_is_said_when_its_run_is_loaded(tmp_path):
    names, lines = {"nn": nn}, []
    code = textwrap.dedent("""
        class Hidden(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 1)
            def forward(self, x):
                return self.conv(x)
    """)
    exec(code, names | {"__name__": "nowhere"}, names)
    _, task, data = make(epochs=1)
    for _ in range(2):
        train(names["Hidden"](), task, data, log=lines.append, folder=tmp_path)
    (said,) = (line for line in lines if "could not check" in line)
    assert "nowhere.Hidden.forward" in said and lines.index(said) > lines.index(lines[1])
    rows_of(tmp_path, epochs=1), rows_of(tmp_path, epochs=1, log=lines.append)
    assert sum("could not check" in line for line in lines) == 1


def test_a_networks_settings_count_and_its_training_does_not():
    net = UNet(3, 2, width=4)
    parts = Code(net).parts
    net(torch.rand(2, 3, 32, 32))
    assert Code(net.eval()).parts == parts != Code(UNet(3, 2, width=4, skip=False)).parts
    net.down[0][2] = nn.LeakyReLU(0.1)
    leaky = Code(net).parts
    net.down[0][2] = nn.LeakyReLU(0.2)
    assert parts != leaky != Code(net).parts
    losses = [nn.CrossEntropyLoss(torch.tensor([1.0, weight])) for weight in (1.0, 2.0)]
    assert Code(net, loss=losses[0]).parts != Code(net, loss=losses[1]).parts
    assert Code(net, loss=losses[0].forward).parts != Code(net, loss=losses[1].forward).parts
