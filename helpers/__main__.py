"""``python -m helpers run | prepare | train``: the notebooks, the data, one network."""

import argparse
import sys
from pathlib import Path

from helpers.presets import PRESETS, preset

DATA_SETS = ("birds", "streets", "landscapes")


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m helpers", description="Run the notebooks, prepare a data set, or train one network."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run the notebooks and write reports/<preset>/")
    run.add_argument(
        "notebooks", nargs="*", type=notebook, metavar="1|2|3", help="which of them; default: all"
    )
    run.add_argument("--out", metavar="DIR", help="where the report goes instead of reports/<preset>")
    run.add_argument(
        "--store", action="store_true", help="put the outputs into notebooks/, for the repository"
    )

    prepare = commands.add_parser("prepare", help="download or check a data set, and decode it once")
    prepare.add_argument("name", choices=DATA_SETS)
    prepare.add_argument("--from", dest="source", metavar="DIR", help="a folder or archive that holds it")
    prepare.add_argument("--classes", type=int, help="keep the first so many species (400 of BIRDS 525)")
    prepare.add_argument("--skip-bad", action="store_true", help="leave bad files out, however many")

    train = commands.add_parser(
        "train",
        help="train one network without a notebook",
        description="Train one network and evaluate it on the test part. Run again, it goes on where it was.",
    )
    train.add_argument("task", choices=("classification", "segmentation", "colorization"))
    train.add_argument("--model", default=None, help="resnet18, plain18, fcn, unet, unet_no_skips, …")
    train.add_argument("--data", metavar="DIR", help="a folder of the task's data set")
    train.add_argument("--out", metavar="DIR", help="where checkpoints go instead of reports/<preset>/runs")
    for setting, kind in (("epochs", int), ("batch_size", int), ("lr", float), ("width", int), ("seed", int)):
        train.add_argument(
            f"--{setting.replace('_', '-')}", type=kind, help=f"instead of the preset's {setting}"
        )

    for command in (run, prepare, train):
        command.add_argument("--preset", choices=PRESETS, default="quick", help="default: quick")
    for name in DATA_SETS:
        run.add_argument(f"--{name}", metavar="DIR", help=f"real {name} instead of the drawn ones")
    return parser.parse_args(arguments)


def notebook(text):
    if text not in ("1", "2", "3"):
        raise argparse.ArgumentTypeError(f"no notebook {text!r}: choose 1, 2 or 3")
    return int(text)


def main(arguments=None):
    options = parse(arguments)
    try:
        {"run": run, "prepare": prepare, "train": train}[options.command](options)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command carries on from here")
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"{options.command}: {error}")


def run(options):
    from helpers.notebooks import NOTEBOOKS, ROOT, execute, store, store_gallery

    folders = {name.upper(): getattr(options, name) for name in DATA_SETS}
    if options.store and any(folders.values()):
        raise ValueError("--store keeps only outputs made from the drawn data: leave the data folders out")
    folders = {name: str(Path(folder).resolve()) for name, folder in folders.items() if folder}
    out = Path(options.out).resolve() if options.out else ROOT / "reports" / options.preset
    for source in NOTEBOOKS:
        if options.notebooks and int(source.name[0]) not in options.notebooks:
            continue
        own = {name: folder for name, folder in folders.items() if name in source.read_text(encoding="utf-8")}
        shown = str(out.relative_to(ROOT)) if out.is_relative_to(ROOT) else str(out)
        executed = execute(source, out, {"PRESET": options.preset, "OUT": shown, **own})
        if options.store:
            store(executed, source)
    if options.store and not options.notebooks:
        store_gallery(out / "figures")
    print(f"Notebooks (.ipynb, .html), figures/ and results.csv, .json, .tex are in {out}")


def prepare(options):
    from helpers.data import prepare

    task = {"birds": "classification", "streets": "segmentation", "landscapes": "colorization"}[options.name]
    data = prepare(
        options.name,
        source=options.source,
        size=getattr(preset(options.preset), task).size,
        classes=options.classes,
        skip_bad=options.skip_bad,
    )
    print(data.report)


def train(options):
    from helpers.data import prepare_or_draw
    from helpers.notebooks import ROOT
    from helpers.tasks import DATA_SETS, TASKS, build
    from helpers.training import evaluate, fit

    names = ("epochs", "batch_size", "lr", "width", "seed")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    chosen = preset(options.preset, **changes)
    settings = getattr(chosen, options.task)
    data = prepare_or_draw(DATA_SETS[options.task], source=options.data or chosen.source, size=settings.size)
    task = TASKS[options.task](data, settings)
    model = build(task, options.model or next(iter(task.networks)))
    folder = Path(options.out) if options.out else ROOT / "reports" / options.preset / "runs"
    for _ in fit(model, task, data, folder=folder):
        pass
    print("test:", evaluate(model, task, data.test))


if __name__ == "__main__":
    main()
