"""Controls of the notebooks: browse images, switch skips off, probe a pixel, colour a photo.

Each function works on a copy of its networks. JupyterLab may answer a moved control in a thread of
its own, while a cell trains or measures the same network.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

import ipywidgets
import numpy as np
import skimage
import torch
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from IPython.display import display
from PIL import ImageOps

from helpers import headless
from helpers.colour import to_float
from helpers.data.decode import BadFile, explain, open_image, to_rgb
from helpers.figures import GREY, spoken
from helpers.image_figures import believed, class_key, compare, error_map, gallery, paint
from helpers.shortcuts import blocks_of, without_blocks
from helpers.skips import levels_of, skip_means, without_skips
from helpers.training import predict


def browse(draw, count):
    """A slider over images 0 … count − 1 that shows the figure ``draw(index)``."""
    return hands_on(
        lambda index: draw(index),
        "drag the slider over all images, or press ← and →.",
        index=slider("image", count - 1, count // 2),
    )


def block_switches(models, task, data):
    """Switches that take blocks out of trained ResNets, see ``without_blocks``.

    ``models``, by name, have the same depth. Below the switches are the scores of all of them, and
    the test images on which one of them is worst.
    """
    models = deepcopy(models)
    truth = torch.as_tensor(data.test.targets)  # (N,)
    names = [name.title() for name in task.classes]
    first, *_ = models.values()

    @cache
    def answers_of(name, off):
        with without_blocks(models[name], off):
            return predict(models[name], task, data.test)  # (N, C)

    def draw(network, **boxes):
        off = unticked(boxes)
        scores = [f"{name} {score(task, answers_of(name, off), truth):.3f}" for name in models]
        answer = answers_of(network, off)
        confidence, guess = answer.max(1)
        worst = answer[range(len(truth)), truth].argsort()[:10]

        captions = [f"is {names[truth[i]]}\n{confidence[i]:.0%} {names[guess[i]]}" for i in worst]
        title = f"Blocks off: {listed(off)}; {spoken(task.metric)}: {', '.join(scores)}. "
        title += f"Worst images of {network}:"
        return gallery(data.test[worst.numpy()][0], captions, columns=5, size=1.5, title=title)

    return hands_on(
        draw,
        "take a block out, put it back, take out another. Which network fails?",
        **switches("block", range(len(blocks_of(first)))),
        network=choice(models),
    )


def skip_switches(model, task, data, palette=None):
    """Switches that silence skips of a trained U-Net, and its answer to one test image.

    A silent skip carries its mean over 64 training images, see ``without_skips``. ``palette``
    paints answers that are class ids.
    """
    model = deepcopy(model)
    means = skip_means(model, task.sample(data.train, 64)[0].split(8))

    def draw(index, **boxes):
        inputs, truth, logits = ask(model, task, *data.test[[index]])
        whole = task.predict(logits, inputs)
        off = unticked(boxes)
        with without_skips(model, off, means), torch.no_grad():
            answer = task.predict(model(inputs), inputs)

        key = None
        if palette is None:
            columns = {
                "grey input": (inputs + 1) / 2,
                "truth": truth,
                "answer": answer,
                "change, doubled": 2 * (answer - whole).abs().mean(1),
            }
        else:
            key = class_key(torch.cat([truth, answer]), task.classes, palette)
            images = data.test.images[[index]]
            columns = {
                "image": images,
                "truth": paint(truth, palette),
                "answer": paint(answer, palette),
                "pixels that changed": error_map(images, answer, whole),
            }
        title = f"Image {index}. Skips off: {listed(off)}; {spoken(task.metric)} "
        title += f"{score(task, answer, truth):.3g}, with all {score(task, whole, truth):.3g}"
        return compare(columns, title=title, key=key)

    return hands_on(
        draw,
        "switch the shallowest skip off, put it back, try the deepest. What does each carry?",
        **switches("skip", levels_of(model)),
        index=slider("image", len(data.test) - 1),
    )


def pixels(models, task, dataset, palette):
    """Classes laid over an image, and what each of ``models``, by name, believes of one pixel."""
    models = deepcopy(models)
    height, width = task.settings.size

    def draw(network, index, opacity, row, column):
        images, truth = dataset[[index]]
        _, _, logits = ask(models[network], task, images, truth)
        probability = logits.softmax(1)[0]  # (C, H, W)
        answer = task.classes[probability[:, row, column].argmax()]
        names = [*task.classes, "void, which counts nowhere"]
        true = names[min(truth[0, row, column], len(task.classes))]
        title = f"Image {index}, at the cross: {network} says {answer}, the truth is {true}"
        return believed(
            images[0], probability, task.classes, palette, opacity, row, column, title=title
        )

    return hands_on(
        draw,
        "move the cross over a border, and choose a network. How wide is its doubt?",
        network=choice(models),
        index=slider("image", len(dataset) - 1),
        opacity=slider("opacity", 1, 0.5, step=0.1),
        row=slider("row", height - 1, height // 2),
        column=slider("column", width - 1, width // 2),
    )


def before_after(model, task, dataset=None):
    """An image, grey on the left of a line and coloured on its right.

    It is one of ``dataset`` or, without that, a photo that the reader chooses. Where colour classes
    are trained, a slider sets their ``rarity``, see ``ColourClasses.decode``.
    """
    model = deepcopy(model)
    if dataset is None:
        chosen = ipywidgets.FileUpload(accept="image/*", description="your photo")
    else:
        chosen = slider("image", len(dataset) - 1)
    controls = {"chosen": chosen, "line": slider("line (%)", 100, 50, step=5)}
    if task.colours is not None:
        controls["rarity"] = slider("rarity", 1, task.rarity, step=0.1)

    def draw(chosen, line, rarity=0.0):
        if dataset is None:
            image = read_photo(chosen, min(task.settings.size))
        else:
            image = dataset[chosen][0]
        inputs, truth, logits = ask(model, task, image[None], None)
        answer = task.with_rarity(rarity).predict(logits, inputs)  # (1, 3, H, W)

        grey = (inputs + 1) / 2  # (1, 1, H, W)
        column = line * (grey.shape[3] - 1) // 100
        both = answer.clone()
        both[..., :column] = grey[..., :column]
        both[..., column] = 1  # the line
        coloured = f"PSNR of the coloured image {score(task, answer, truth):.1f} dB"
        title = f"{coloured}, of the grey one {score(task, grey, truth):.1f} dB"
        return gallery(both, ["grey | coloured"], title=title, size=5)

    return hands_on(
        draw,
        "choose an image, and move the line over an edge. Does the colour keep to it?",
        **controls,
    )


def read_photo(upload, side):
    """What a FileUpload holds, or else a cup of coffee: uint8 (3, H, W), upright.

    Its shorter side becomes twice ``side``. Raises BadFile with a whole sentence.
    """
    with TemporaryDirectory() as folder:
        path = Path(skimage.data.data_dir, "coffee.png")
        if upload:
            if isinstance(upload, dict):  # in ipywidgets 7
                upload = list(upload.values())
            path = Path(folder, "photo")
            path.write_bytes(upload[0]["content"])
        try:
            with open_image(path, 2 * side) as image:
                photo = to_rgb(image)
        except Exception as error:  # whatever a decoder raises: the file is bad
            raise BadFile(f"Your file {explain(path, error)}.") from error
    photo = ImageOps.cover(photo, (2 * side, 2 * side))
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1)


@torch.no_grad()
def ask(model, task, images, target):
    """(inputs, target, logits) of a batch of uint8 images, on the CPU."""
    inputs, target = task.inputs(to_float(images), target)
    return inputs, target, model.cpu().eval()(inputs)


def score(task, answer, truth):
    """``task.metric`` of the answers to a batch."""
    return getattr(task.scores().update(answer, truth), task.metric)


def slider(description, high, value=0, step=1):
    """A slider from 0 to ``high``, of whole numbers or, by its ``step``, of floats.

    It tells its value when it is let go.
    """
    kind = ipywidgets.IntSlider
    if isinstance(step, float):
        kind = ipywidgets.FloatSlider
    return kind(value, min=0, max=high, step=step, continuous_update=False, description=description)


def choice(models):
    """A button for each name."""
    return ipywidgets.ToggleButtons(options=list(models), description="network")


def switches(word, numbers):
    """A ticked box, no wider than its words, for each number: {"0": the box "block 1", …}."""
    return {
        str(number): ipywidgets.Checkbox(
            True, description=f"{word} {number + 1}", indent=False, layout={"width": "auto"}
        )
        for number in numbers
    }


def unticked(boxes):
    """The numbers of ``switches`` that are off, by their values."""
    return tuple(int(number) for number, on in boxes.items() if not on)


def listed(numbers):
    """Numbers from 0 on, as people count: "1, 3", or "none"."""
    return ", ".join(str(number + 1) for number in numbers) or "none"


def hands_on(draw, text, **controls):
    """Controls above the figure ``draw(**values)``, which is redrawn when one of them is moved.

    Where ``draw`` raises BadFile, its message is shown. Nobody can move anything in a notebook that
    ``python -m helpers run`` executes. It shows the first figure, and ``text`` says above it what
    one could do.
    """
    still = draw(**{name: control.value for name, control in controls.items()})
    # Above the figure: a legend moves to the lower edge of all that is drawn.
    letters = int(18 * still.get_figwidth())  # in a line
    told = fill(f"In a running notebook: {text}", letters)
    still.text(0.005, 1.01, told, va="bottom", fontsize=7, color=GREY)
    if headless():
        return still
    return Live(draw, controls, still)


class Live(ipywidgets.VBox):
    """Controls above what ``draw`` shows. Readers without a kernel see the image ``still``."""

    opened = []  # all that are not closed

    def __init__(self, draw, controls, still):
        def redraw(**values):
            try:
                display(draw(**values))
            except BadFile as error:
                print(error)

        self.controls = controls
        self.still = still
        shown = ipywidgets.interactive_output(redraw, controls)
        row = ipywidgets.Box(list(controls.values()), layout={"flex_flow": "row wrap"})
        super().__init__([row, shown])

        # Close what an earlier run of this cell has opened, so that memory does not fill up.
        self.cell, self.run = running_cell()
        for box in list(self.opened):
            if box.cell == self.cell and box.run != self.run:
                box.close()
                self.opened.remove(box)
        self.opened.append(self)

    def close(self):
        """Close all parts. The kernel would keep each for ever, and with it the networks."""
        for part in (*self.controls.values(), *self.children):
            part.close()
        super().close()

    def _ipython_display_(self):
        image = print_figure(self.still, bbox_inches="tight", base64=True)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        display({"application/vnd.jupyter.widget-view+json": view, "image/png": image}, raw=True)


def running_cell():
    """The id of the running cell, or its text where it has none, and the number of this run."""
    shell = get_ipython()
    cell = shell.parent_header["metadata"].get("cellId", shell.user_ns["In"][-1])
    return cell, shell.execution_count
