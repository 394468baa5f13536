"""``python -m helpers run | prepare | train``: the notebooks, the data, one network."""

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
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

    train = add_train(commands)

    for command in (run, prepare, train):
        command.add_argument("--preset", choices=PRESETS, default="quick", help="default: quick")
    for name in DATA_SETS:
        run.add_argument(f"--{name}", metavar="DIR", help=f"real {name} instead of the drawn ones")
    return parser.parse_args(arguments)


def add_train(commands):
    train = commands.add_parser(
        "train",
        help="train one network without a notebook",
        description="Train one network and evaluate it on the test part of its data. Every finished epoch\n"
        "is saved: the same command, run again, goes on where it was stopped.",
        epilog="examples:\n"
        "  python -m helpers train segmentation --model unet\n"
        "      the U-Net on drawn streets, small enough for a laptop\n"
        "  python -m helpers train classification --preset report --data ~/birds --seed 1\n"
        "      the report's ResNet-18 on real birds, from other initial weights\n"
        "  python -m helpers train segmentation --preset report --table\n"
        "      what that preset means, and how much memory it needs\n"
        "  accelerate launch --multi_gpu --num_processes 4 -m helpers train segmentation\n"
        "      the same training on four GPUs (ACCELERATE_USE_CPU=true before it: on four CPU processes)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument(
        "task", choices=("classification", "segmentation", "colorization"), help="what is to be learnt"
    )
    train.add_argument(
        "--model",
        metavar="NAME",
        help="classification: resnet18 (default), plain18; segmentation: fcn (default), unet, unet_no_skips; "
        "colorization: unet (default), unet_no_skips, "
        "unet_without_level_1, unet_without_level_2, unet_without_level_3, unet_without_level_4",
    )
    train.add_argument(
        "--data", metavar="DIR", help="the task's pictures; default: what the preset is meant for"
    )
    train.add_argument(
        "--table", action="store_true", help="print the preset's settings and memory, and stop"
    )
    changes = train.add_argument_group("instead of the preset's own")
    changes.add_argument("--epochs", type=int, metavar="N", help="how often every picture is seen")
    changes.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures per step, all processes together"
    )
    changes.add_argument("--lr", type=float, metavar="X", help="learning rate at its highest")
    changes.add_argument("--width", type=int, metavar="N", help="channels of the network's first stage")
    changes.add_argument(
        "--seed", type=int, metavar="N", help="fixes initial weights, order and augmentation"
    )
    saving = train.add_argument_group("saving")
    saving.add_argument("--out", metavar="DIR", help="gets the runs; default: reports/<preset>/runs")
    saving.add_argument(
        "--mirror",
        metavar="DIR",
        help="gets a copy after each epoch (Google Drive, say); a fresh machine goes on from there",
    )
    speed = train.add_argument_group("speed")
    speed.add_argument(
        "--precision", choices=("no", "bf16", "fp16"), help="no is fp32; default: what the device is best at"
    )
    speed.add_argument("--compile", action="store_true", help="translate the network by torch.compile first")
    return train


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
    except (ValueError, RuntimeError, OSError, FloatingPointError) as error:
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
    from helpers.device import accelerator, hardware
    from helpers.notebooks import ROOT
    from helpers.presets import table
    from helpers.tasks import DATA_SETS, TASKS, build
    from helpers.training import evaluate, fit

    if options.table:
        print(table(options.preset).to_string())
        return
    names = ("epochs", "batch_size", "lr", "width", "seed")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    chosen = preset(options.preset, **changes)
    settings = getattr(chosen, options.task)
    engine = accelerator(options.precision)
    engine.print(f"{hardware()}{f'; asked for: {options.precision}' if options.precision else ''}")
    engine.print(f"{engine.num_processes} process(es), {settings}")
    # One process of each machine prepares the data, the others find it done and say nothing.
    silent = redirect_stdout(None) if not engine.is_main_process else nullcontext()
    with engine.local_main_process_first(), silent:
        data = prepare_or_draw(
            DATA_SETS[options.task], source=options.data or chosen.source, size=settings.size
        )
    task = TASKS[options.task](data, settings)
    model = build(task, options.model or next(iter(task.networks)))
    folder = Path(options.out) if options.out else ROOT / "reports" / options.preset / "runs"
    for _ in fit(model, task, data, folder=folder, mirror=options.mirror, compile=options.compile):
        pass
    scores = evaluate(model, task, data.test)
    scores = {"loss": scores["valid_loss"], task.metric: scores[task.metric]}
    engine.print("test: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    engine.end_training()


if __name__ == "__main__":
    main()
