"""Trained networks in the reader's hands: take their skips away, look into a pixel, colour a photo.

Each function works on a copy of its networks, since JupyterLab answers a moved control in a thread of its
own, while a cell may train or measure the very same network.
"""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets
import numpy as np
import skimage
import torch
from PIL import Image, ImageOps

from helpers import galleries
from helpers.data import ArrayDataset
from helpers.data.decode import explain, open_image, to_rgb
from helpers.figures import spoken
from helpers.metrics import psnr
from helpers.models.resnet import BasicBlock
from helpers.skips import bridge_means, without_blocks, without_bridges
from helpers.training import forward, predict
from helpers.widgets import choice, hands_on, slider, switch


def block_switches(nets, task, data, worst=10):
    """Trained ResNets, ``nets`` by name, with some blocks taken out, see ``without_blocks``: who is right?"""
    nets, truth = deepcopy(nets), torch.as_tensor(np.asarray(data.test.targets))
    names = [name.title() for name in task.classes]
    count = min(sum(isinstance(module, BasicBlock) for module in net.modules()) for net in nets.values())

    @lru_cache(maxsize=256)
    def answered(name, out):
        with without_blocks(nets[name], out):
            return predict(nets[name], task, data.test)

    def draw(network, **blocks):
        out = taken(blocks)
        said = [f"{name} {scored(task, answered(name, out), truth):.3f}" for name in nets]
        answer = answered(network, out)
        rows = answer.gather(1, truth[:, None]).squeeze(1).argsort()[:worst]
        sure, guess = answer[rows].max(1)
        facts = zip(truth[rows], guess, sure, strict=True)
        captions = [f"is {names[true]}\n{names[guessed]} {share:.0%}" for true, guessed, share in facts]
        title = f"{without('block', out)}, {spoken(task.metric)}: {', '.join(said)}"
        title += f". The {network} net's worst of {len(truth)} pictures:"
        return galleries.gallery(data.test[rows.numpy()][0], captions, columns=5, size=1.5, title=title)

    what = f"{count} switches, one a block, and a choice of the net whose worst pictures are shown. Take one"
    what += " block out, put it back, take out another: which net limps, and which falls?"
    switches = {f"block {n + 1}": switch(f"block {n + 1}") for n in range(count)}
    return hands_on(draw, what, network=choice("worst pictures of", nets), **switches)


def skip_switches(net, task, data, palette=None, samples=64):
    """A trained U-Net with some bridges off: they carry their mean, see ``without_bridges``.

    The mean is that over ``samples`` training pictures. ``palette`` paints answers that are class ids.
    """
    net = deepcopy(net)
    means = bridge_means(net, task.sample(data.train, samples)[0].split(8))

    @lru_cache(maxsize=8)
    def answered(index, off):
        with without_bridges(net, off, means):
            inputs, truth, logits = ask(net, task, only(data.test, index))
        return inputs, truth, task.predict(logits, inputs)

    def draw(picture, **bridges):
        off, metric = taken(bridges), spoken(task.metric)
        (inputs, truth, answer), (_, _, whole) = answered(picture, off), answered(picture, ())
        if palette is None:
            columns = {"grey input": (inputs[0] + 1) / 2, "truth": truth[0], "answer": answer[0]}
            columns["change, doubled"] = 2 * (answer - whole).abs().mean(1)[0]
        else:
            image = data.test[picture][0].permute(1, 2, 0)
            columns = {"picture": image, "truth": galleries.paint(truth[0], palette)}
            columns["answer"] = galleries.paint(answer[0], palette)
            columns["pixels that changed"] = galleries.error_map(image, answer[0], whole[0])
        one, best = scored(task, answer, truth), scored(task, whole, truth)
        title = f"Picture {picture}. {without('bridge', off)}: {metric} {one:.3g}; with all {best:.3g}"
        return galleries.strip(columns, title)

    on = [level for level, bridged in enumerate(net.skip) if bridged]
    what = f"{len(on)} switches, one a bridge, and a slider over {len(data.test)} pictures. Take the"
    what += " shallowest bridge away, put it back, take the deepest: what does each carry?"
    switches = {f"bridge {n + 1}": switch(f"bridge {n + 1}, stride {2**n}") for n in on}
    return hands_on(draw, what, picture=slider("picture", 0, 0, len(data.test) - 1), **switches)


def pixels(nets, task, dataset, palette):
    """Photo and classes, one over the other, and what each of ``nets``, by name, believes of one pixel."""
    nets, count, (height, width) = deepcopy(nets), len(dataset), dataset[0][0].shape[1:]

    @lru_cache(maxsize=8)
    def answered(name, index):
        return torch.softmax(ask(nets[name], task, only(dataset, index))[2], 1)[0]

    def draw(network, picture, opacity, row, column):
        image, truth = dataset[picture]
        probability, where = answered(network, picture), {"row": row, "column": column}
        said, true = (task.classes[c] for c in (probability[:, row, column].argmax(), truth[row, column]))
        title = f"Picture {picture}, at the cross: {said}, says {network}; the truth: {true}"
        return galleries.believed(image, probability, task.classes, palette, opacity, **where, title=title)

    what = f"a choice of network, sliders over {count} pictures, for the classes' opacity and for the cross."
    what += " Move the cross over a border, a pixel at a time: how wide is the doubt?"
    places = {"row": slider("row", height // 2, 0, height - 1)}
    places["column"] = slider("column", width // 2, 0, width - 1)
    controls = {"picture": slider("picture", 0, 0, count - 1), "opacity": slider("opacity", 0.5, 0, 1, 0.1)}
    return hands_on(draw, what, network=choice("network", nets), **controls, **places)


def before_after(net, task, dataset=None):
    """Grey on the left of a line, coloured on the right: a picture of ``dataset``, or a file of one's own.

    Where colour classes are trained there is their ``rarity``, too, see ``ColourClasses.decode``.
    """
    net, side = deepcopy(net), 2 * min(task.settings.size)
    if dataset is None:
        what = "a button that takes a photo of yours, of any size, and a slider for the line between grey and"
        what += " colour. What does the network recognise?"
        controls = {"picture": ipywidgets.FileUpload(accept="image/*", description="a photo of yours")}
        controls["picture"].layout.width = "auto"
    else:
        what = f"sliders over {len(dataset)} pictures and for the line between grey and colour. Move the line"
        what += " over an edge: does the colour keep to it?"
        controls = {"picture": slider("picture", 0, 0, len(dataset) - 1)}
    controls["line"] = slider("line (% of the width)", 50, 0, 100, 5)
    if task.colours is not None:
        controls["rarity"] = slider("rare colours: 0 faithful, 1 vivid", task.rarity, 0.0, 1.0, 0.1)

    @lru_cache(maxsize=2)
    def asked(chosen):
        if dataset is not None:
            return ask(net, task, only(dataset, chosen))
        photo = open_photo(*chosen) if chosen else Image.fromarray(skimage.data.coffee())
        return photo if isinstance(photo, str) else ask(net, task, fitted(photo, side))

    def draw(picture, line, rarity=None):
        if isinstance(answered := asked(uploaded(picture) if dataset is None else picture), str):
            return answered
        inputs, truth, logits = answered
        grey, answer = (inputs + 1) / 2, task.predict(logits, inputs)
        if rarity is not None:
            answer = task.colours.decode(logits, grey, task.temperature, rarity)
        good, plain = (float(psnr(x, truth)) for x in (answer, grey.expand_as(truth)))
        title = f"PSNR of the coloured picture {good:.1f} dB, the grey copy {plain:.1f}"
        both = torch.where(torch.arange(grey.shape[3]) < line / 100 * grey.shape[3], grey, answer)[0]
        return galleries.strip({"grey | coloured": both}, title, size=5, line=line / 100)

    return hands_on(draw, what, **controls)


def uploaded(value):
    """(name, bytes) of what a FileUpload holds: a dict by name in ipywidgets 7, a tuple of dicts in 8."""
    if not value:
        return None
    name, file = next(iter(value.items())) if isinstance(value, dict) else (value[0]["name"], value[0])
    return name, bytes(file["content"])


def open_photo(name, content):
    """The bytes of an image file -> an upright RGB image; of a bad one, a sentence that says what is bad."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "upload")
        path.write_bytes(content)
        try:
            with open_image(path) as image:
                return to_rgb(ImageOps.exif_transpose(image))
        except Exception as error:  # whatever a decoder raises: the file is bad
            return f"{name} {explain(path, error)}."


def fitted(image, side):
    """A data set of one RGB image, its shorter side ``side`` pixels or its longer one four times that."""
    scale = min(side / min(image.size), 4 * side / max(image.size))
    image = image.resize([max(16, round(scale * length)) for length in image.size], Image.Resampling.BILINEAR)
    return ArrayDataset(np.asarray(image)[None], None, ["photo"])


def only(dataset, index):
    """A data set of one picture of ``dataset``."""
    images, targets = dataset[[index]]
    masks = None if targets is images else targets.numpy()
    return ArrayDataset(images.permute(0, 2, 3, 1).numpy(), masks, ["picture"])


@torch.no_grad()
def ask(net, task, dataset):
    """(inputs, target, logits) of a data set of one picture, on the CPU."""
    return [tensor.cpu() for tensor in next(forward(net, task, dataset, shared=False))]


def scored(task, answer, truth):
    return getattr(task.scores().update(answer, truth), task.metric)


def taken(switches):
    """{"block 3": False, …} -> the numbers, from 0 on, of those switched off."""
    return tuple(int(name.split()[1]) - 1 for name, on in switches.items() if not on)


def without(what, numbers):
    listed = ", ".join(str(n + 1) for n in numbers)
    return f"Without {what}{'s' * (len(numbers) > 1)} {listed}" if numbers else f"All {what}s"
