"""The exercises' expected ranges, for teachers: three students' runs, each with its own images and seed.

``python -m notebooks.exercises`` does every exercise that has a number, as a student would, and
puts the table into README.md beside this file. It takes one to two hours on two cores. The networks stay in
reports/, so an interrupted run carries on.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from helpers import ROOT
from helpers.metrics import border_band, iou_of, per_image_confusion
from helpers.models.resnet import BasicBlock
from helpers.notebook import start
from helpers.presets import BETTER
from helpers.scores import landscape_scores, street_scores
from helpers.shortcuts import blocks_of, gradient_correlation
from helpers.skips import CopyTest, corrupted, scaled_skips, skip_means, without_skips
from helpers.tasks import Classification, Colorization, Segmentation, build
from helpers.training import evaluate, predict
from notebooks.store import put_between

STUDENTS = {"expected-a": 0, "expected-b": 1, "expected-c": 2}  # name: seed


def expected(student, seed, preset="quick"):
    """{(lesson and exercise, what): value} of one student."""
    begin = partial(start, preset=preset, student=student, seed=seed)
    found = {}
    for exercises in (birds, streets, landscapes, shortcuts, unet_skips):
        found |= exercises(begin)
    return found


def trained(lesson, networks, *, like=None, **changed):
    """Train networks, {name: model}, with some settings changed, and measure them."""
    settings = replace(lesson.settings, **changed)
    task = (like or type(lesson.task))(lesson.data, settings)
    lesson.networks |= networks
    lesson.train(list(networks), task, curves=False)
    lesson.measure(*networks)
    return task


def difference(lesson, one, other, score):
    lesson.results.difference(one, other, score)
    return lesson.results[f"{one} − {other}", score][0]


class EarlyReLU(BasicBlock):
    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out))) + shortcut


def birds(begin):
    lesson = begin("classification")
    score = partial(difference, lesson, score="accuracy")
    early = {"blocks": (2, 2, 2, 2), "block": EarlyReLU}
    long = 3 * lesson.settings.epochs
    trained(lesson, {"residual": "resnet18", "plain": "plain18"})
    trained(
        lesson, {"residual, half": "resnet18", "plain, half": "plain18"}, width=lesson.settings.width // 2
    )
    trained(lesson, {"early ReLU": early})
    trained(lesson, {"residual, long": "resnet18", "plain, long": "plain18"}, epochs=long)

    return {
        ("1.1", "residual − plain, accuracy"): score("residual", "plain"),
        ("1.1", "… at half the width"): score("residual, half", "plain, half"),
        ("1.2", "early ReLU − residual, accuracy"): score("early ReLU", "residual"),
        ("1.3", "residual − plain, three times the epochs"): score("residual, long", "plain, long"),
    }


def streets(begin):
    lesson = begin("segmentation")
    data = lesson.data
    score = partial(difference, lesson, score="mean_iou")
    pair = {"U-Net": "unet", "no skips": "unet_no_skips"}
    trained(lesson, pair | {"skip 1": {"skip": [True, False, False, False]}})
    trained(lesson, {"unweighed": "unet"}, balance=0.0)
    long = {f"{name}, long": model for name, model in pair.items()}
    trained(lesson, long, epochs=3 * lesson.settings.epochs)

    truth = np.asarray(data.test.targets)
    counts = np.bincount(truth.ravel(), minlength=256)[: len(data.classes)]
    ends = {
        "rarest": np.where(counts > 0, counts, counts.max()).argmin(),
        "commonest": counts.argmax(),
    }
    found = {
        ("2.1", "skip 1 − no skips, mean IoU"): score("skip 1", "no skips"),
        ("2.1", "U-Net − skip 1, mean IoU"): score("U-Net", "skip 1"),
    }
    for name, how in {"U-Net": "weighed", "unweighed": "not weighed"}.items():
        answer = lesson.answers(name)[0].numpy()
        iou = iou_of(per_image_confusion(answer, truth, len(data.classes)).sum(0))
        for end, number in ends.items():
            found["2.2", f"IoU of the {end} class, {how}"] = iou[number]
    for share in (0.0075, 0.015, 0.03):
        band = border_band(truth, share)
        right = {n: (lesson.answers(n)[0].numpy() == truth)[band].mean() for n in pair}
        gap = right["U-Net"] - right["no skips"]
        found["2.3", f"U-Net − no skips, accuracy within {share:.2%} of the diagonal"] = gap
    gap = score("U-Net, long", "no skips, long")
    return found | {("2.4", "U-Net − no skips, three times the epochs"): gap}


def landscapes(begin):
    lesson = begin("colorization")
    data = lesson.data
    score = partial(difference, lesson)
    pair = {"U-Net": "unet", "no skips": "unet_no_skips"}
    trained(lesson, pair | {"skips 1 and 4": {"skip": [True, False, False, True]}})
    long = {f"{name}, long": model for name, model in pair.items()}
    trained(lesson, long, epochs=3 * lesson.settings.epochs)

    own = lesson.settings
    other = {**BETTER["colorization"], "batch_size": own.batch_size // 2}
    trained(lesson, {"colour classes": "unet"}, **other)
    settings = replace(own, **other)
    found = {}
    for temperature in (0.1, 0.38, 1.0):
        reader = Colorization(data, settings, temperature=temperature, rarity=1.0)
        answer = predict(lesson.models["colour classes"][0], reader, data.test)
        scores = landscape_scores(answer[None], data.test)
        for name in ("colourfulness", "ab_error"):
            what = f"{name.replace('_', ' ')} at temperature {temperature}"
            found["3.1", what] = scores[name].mean()
    red = np.array(["sunrise" in name for name in data.test.names])
    for name in pair:
        values = lesson.results.measured[name, "psnr"][0][0]
        gap = values[red].mean() - values[~red].mean()
        found["3.3", f"{name}: red mornings − all others, PSNR (dB)"] = gap
    found["3.2", "skips 1 and 4 − U-Net, PSNR (dB)"] = score("skips 1 and 4", "U-Net", "psnr")
    for kind, unit in {"psnr": "PSNR (dB)", "ab_error": "ab error"}.items():
        gap = score("U-Net, long", "no skips, long", kind)
        found["3.4", f"U-Net − no skips, three times the epochs, {unit}"] = gap
    return found


def shortcuts(begin):
    lesson = begin("classification", study=True)
    trained(lesson, {"residual": "resnet18", "plain": "plain18"})
    starts, _ = lesson.task.sample(lesson.data.test, 12)
    found = {}
    for distance in (0.003, 0.01, 0.03, 0.1):
        ends = starts.lerp(starts.flip(0), distance)
        for kind in ("resnet34", "plain34"):
            alike = gradient_correlation(build(lesson.task, kind), starts, ends).mean()
            found["S1.1", f"{kind}: cosine at distance {distance}"] = alike
    for name in ("residual", "plain"):
        model = lesson.models[name][0]
        before = evaluate(model, lesson.task, lesson.data.test)["accuracy"]
        one, other = blocks_of(model)[-2:]
        one.conv2, other.conv2 = other.conv2, one.conv2
        after = evaluate(model, lesson.task, lesson.data.test)["accuracy"]
        one.conv2, other.conv2 = other.conv2, one.conv2
        found["S1.2", f"{name}: accuracy lost, last two blocks"] = before - after

    small = {"width": lesson.settings.width // 2, "limit": 50 * len(lesson.data.classes)}
    for times in (1, 4):
        name = f"plain 34, {times}"
        task = trained(lesson, {name: "plain34"}, epochs=times * 5, **small)
        few = lesson.data.train.subset(small["limit"]).subset(300)
        loss = evaluate(lesson.models[name][0], task, few)["valid_loss"]
        found["S1.3", f"plain 34: training loss after {times * 5} epochs"] = loss
    return found


def unet_skips(begin):
    lesson = begin("segmentation", study=True)
    data = lesson.data
    half = lesson.settings.width // 2
    trained(lesson, {"U-Net": "unet"})
    model = lesson.models["U-Net"][0]
    inputs, _ = lesson.task.sample(data.train, 64)
    means = skip_means(model, inputs.split(8))
    fillings = {
        "its mean": without_skips(model, [0], means),
        "zeros": scaled_skips(model, {0: 0}),
    }
    found = {}
    for name, filled in fillings.items():
        with filled:
            value = evaluate(model, lesson.task, data.test)["mean_iou"]
        found["S2.1", f"skip 1 filled with {name}: mean IoU"] = value

    sets = {"skips": "unet", "no skips": "unet_no_skips"}
    for augment in (0.0, 1.0):
        named = {f"{name}, {augment}": model for name, model in sets.items()}
        trained(lesson, named, width=half, epochs=6, augment=augment)
        for kind in ("noise", "fog"):
            shifted = corrupted(data.test, kind, 4)
            ious = []
            for name in named:
                scores = street_scores(lesson.answers(name, shifted), data.test, data.classes)
                ious.append(iou_mean(scores["mean_iou"]))
            what = f"skips − no skips, {kind} 4, augment={augment}"
            found["S2.2", what] = ious[0] - ious[1]

    for level in range(4):
        only = [level == other for other in range(4)]
        name = f"copy by skip {level + 1}"
        trained(lesson, {name: {"skip": only}}, like=CopyTest, width=half, epochs=8)
        found["S2.3", f"{name}: mean IoU"] = lesson.results[name, "mean_iou"][0]
    return found


def iou_mean(matrices):
    """Mean IoU of confusion matrices (1, N, C, C)."""
    return np.nanmean(iou_of(matrices[0].sum(0)))


def table(students):
    """Lowest and highest value of each number over the students, in Markdown."""
    lines = ["| exercise | what | lowest | highest |", "|---|---|---|---|"]
    for key in sorted(students[0], key=lambda key: (key[0].startswith("S"), key[0])):
        values = [found[key] for found in students]
        ends = [f"{value:.2f}".replace("-", "−") for value in (min(values), max(values))]
        lines.append(f"| {key[0]} | {key[1]} | {' | '.join(ends)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    found = [expected(student, seed) for student, seed in STUDENTS.items()]
    put_between(ROOT / "notebooks" / "README.md", "expected", table(found))
