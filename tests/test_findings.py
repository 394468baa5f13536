"""What the lessons find holds for other seeds, too, by a margin that ten seeds have kept."""

from helpers.data import prepare
from helpers.presets import Settings
from helpers.tasks import Segmentation, build
from helpers.training import evaluate, fit

SETTINGS = Settings((48, 64), 8, 3, 4, lr=4e-3, schedule="linear", balance=0.5, limit=300)
MARGIN = 0.03  # of mean IoU; over seeds 0 to 9 the gain was 0.05 to 0.16


def test_a_unet_with_its_skips_is_better_than_one_without_them():
    data = prepare("streets", "synthetic", size=SETTINGS.size)
    task = Segmentation(data, SETTINGS)
    scores = {}
    for name in ("unet", "unet_no_skips"):
        model = build(task, name)
        list(fit(model, task, data, log=lambda line: None))
        scores[name] = evaluate(model, task, data.test)["mean_iou"]
    assert scores["unet"] - scores["unet_no_skips"] > MARGIN, scores
