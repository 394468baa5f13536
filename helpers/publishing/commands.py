"""The command line: run the notebooks, pack them for Colab, prepare data, train one network."""

import argparse
import runpy
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from helpers import ROOT
from helpers.engine.checkpoint import CheckpointError
from helpers.engine.files import DataError
from helpers.presets import PRESETS, Settings
from helpers.publishing.notebooks import NOTEBOOKS, NotebookFailed, execute_all
from helpers.results import report_folder
from helpers.tasks import TASKS, build

DATA_SETS = {task.data_set: name for name, task in TASKS.items()}
EXPECTED = (CheckpointError, DataError, FloatingPointError, MemoryError, NotebookFailed, OSError)
Parser = partial(argparse.ArgumentParser, allow_abbrev=False)  # --seed is not --seeds
EXAMPLES = """examples:
  python -m helpers train segmentation --model unet
      the U-Net on synthetic streets, small enough for a laptop
  python -m helpers train classification --preset report --data ~/birds --seed 1
      the report's ResNet-18 on real birds, from other initial weights
  python -m helpers train colorization --size 96x128 --epochs 20
      the colour U-Net on larger images (height x width), for longer
  accelerate launch --multi_gpu --num_processes 4 -m helpers train segmentation
      the same training on four GPUs (ACCELERATE_USE_CPU=true before it: on four CPU processes)"""


def main(arguments=None):
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        options.action(options)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command carries on from here")
    except EXPECTED as error:
        sys.exit(f"{options.command}: {error}")
    except ValueError as error:  # of what was asked for
        parser.exit(2, f"{options.command}: {error}\n")


def make_parser():
    parser = Parser(
        prog="python -m helpers",
        description="Run the notebooks, here or in Colab; prepare data; train a network.",
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    add_run(commands)
    add_prepare(commands)
    add_train(commands)
    colab = commands.add_parser("colab", help="write the notebooks for Google Colab")
    colab.set_defaults(action=pack_for_colab)
    add_folder(colab, "--out", "of the files; default: reports/colab")
    return parser


def add_run(commands):
    run = commands.add_parser("run", help="run the notebooks and write a report")
    run.set_defaults(action=run_notebooks)
    run.add_argument("notebooks", nargs="*", type=number, help="1, 2 or 3; default: all")
    add_preset(run, "quick")
    run.add_argument("--seeds", type=int, default=1, help="how often to train each network")
    for name in DATA_SETS:
        run.add_argument(f"--{name}", help=f"folder of your {name}; default: synthetic ones")
    add_folder(run, "--out", "of the report; default: reports/<preset>[-<data>][-seedsN]")


def add_prepare(commands):
    prepare = commands.add_parser("prepare", help="check or download a data set; decode it once")
    prepare.set_defaults(action=prepare_data)
    prepare.add_argument("name", choices=DATA_SETS)
    prepare.add_argument("--from", dest="source", help="a folder or an archive")
    prepare.add_argument("--classes", type=int, help="birds: use only so many species")
    prepare.add_argument(
        "--skip-bad", action="store_true", help="leave bad files out, however many"
    )
    add_preset(prepare, "report")


def add_train(commands):
    train = commands.add_parser(
        "train",
        help="train one network without a notebook",
        usage="python -m helpers train TASK [options]",
        description="Train one network and evaluate it on the test set of its data. Every "
        "finished epoch is\nsaved: the same command, run again, goes on where it was stopped.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(action=train_network)
    train.add_argument("task", choices=TASKS, help="what is to be learnt")
    models = [f"{name}: {', '.join(task.models)}" for name, task in TASKS.items()]
    train.add_argument("--model", help=f"{'; '.join(models)}; default: the first")
    add_preset(train, "quick")
    train.add_argument("--data", help="folder of the images; default: the preset's")
    add_folder(train, "--out", "of the runs; default: reports/<preset>/runs")
    add_folder(train, "--mirror", "that gets a copy of each epoch (Google Drive, say)")
    settings = train.add_argument_group("settings, instead of those of the preset")
    kinds = {tuple[int, int]: pixels, int | None: int, float | None: float}
    for field in fields(Settings):
        settings.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kinds.get(field.type, field.type),
            choices=field.metadata["known"] or None,
            help=field.metadata["help"],
        )


def add_preset(parser, default):
    parser.add_argument("--preset", choices=PRESETS, default=default, help=f"default: {default}")


def add_folder(parser, option, says):
    parser.add_argument(option, type=folder, help=f"folder {says}")


def number(text):
    """The number of a notebook; no ``choices``, which Python 3.11 refuses beside nargs="*"."""
    if text not in ("1", "2", "3"):
        raise argparse.ArgumentTypeError(f"no notebook {text!r}: choose 1, 2 or 3")
    return text


def pixels(text):
    """A size: "96x128" is (96, 128), and "64" is (64, 64)."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def folder(path):
    """The folder to write to; what is there already must be one."""
    path = Path(path).expanduser().absolute()
    for part in (path, *path.parents):
        if part.is_file():
            raise argparse.ArgumentTypeError(f"{part} is a file: give a folder to write to")
    return path


def run_notebooks(options):
    from helpers.publishing.report import write_report

    sources = {name: getattr(options, name) for name in DATA_SETS}
    if options.seeds < 1:
        raise ValueError(f"--seeds {options.seeds}: give a whole number of at least 1")
    out = options.out or report_folder(options.preset, options.seeds, **sources)

    parameters = {}
    for notebook in NOTEBOOKS:
        digit, _, task = notebook.stem.partition("_")
        if digit in (options.notebooks or "123"):
            given = {"PRESET": options.preset, "SEEDS": options.seeds, "OUT": str(out)}
            data_set = TASKS[task].data_set
            if sources[data_set]:
                given[data_set.upper()] = str(Path(sources[data_set]).expanduser().absolute())
            parameters[notebook] = given

    print(f"Runs {len(parameters)} notebooks into {out}; if stopped, run this again", flush=True)
    execute_all(parameters, out)
    page = write_report(out, options.preset)
    print(f"To look at: {page}; to write on: report.tex beside it")


def prepare_data(options):
    from helpers.data import prepare

    size = getattr(PRESETS[options.preset], DATA_SETS[options.name]).size
    data = prepare(options.name, options.source, size, options.classes, options.skip_bad)
    print(data.inventory)


def train_network(options):
    from helpers.data import prepare_or_draw
    from helpers.engine.device import accelerator
    from helpers.training import evaluate, fit

    chosen = PRESETS[options.preset]
    kind = TASKS[options.task]
    changes = {}
    for field in fields(Settings):
        value = getattr(options, field.name)
        if value is not None:
            changes[field.name] = value
    settings = replace(getattr(chosen, options.task), **changes)
    kind.check(settings)
    name = options.model or next(iter(kind.models))
    if name not in kind.models:  # said before the data are prepared, which may take long
        raise ValueError(
            f"no model {name!r} for {kind.name}: choose one of {', '.join(kind.models)}"
        )

    engine = accelerator(settings.precision)
    out = options.out or ROOT / f"reports/{options.preset}/runs"
    engine.print(f"{name}, {settings}, into {out}")
    with engine.local_main_process_first():  # the others find the data prepared
        data = prepare_or_draw(
            kind.data_set, source=options.data or chosen.source, size=settings.size
        )
    task = kind(data, settings)
    model = build(task, name)
    list(fit(model, task, data, folder=out, mirror=options.mirror, name=name))
    for score, value in evaluate(model, task, data.test).items():
        engine.print(f"test set: {score.replace('valid_', '')} {value:.4f}")
    engine.end_training()


def pack_for_colab(options):
    from helpers.publishing.colab import write_for_colab

    store = runpy.run_path(str(ROOT / "notebooks/store.py"))
    store["refer"]()
    for path in write_for_colab(options.out or ROOT / "reports/colab"):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    print("Upload one at https://colab.research.google.com, and there: Runtime → Run all")
