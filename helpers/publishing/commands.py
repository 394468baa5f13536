"""The command line: the notebooks, here and for Colab, the data, one network."""

import argparse
import re
import runpy
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import fields, replace
from pathlib import Path
from traceback import extract_tb

from helpers import ROOT
from helpers.engine.files import DataError
from helpers.presets import PRESETS, Settings, preset
from helpers.results import report_folder
from helpers.tasks import TASKS, build

STORE = ROOT / "notebooks" / "store.py"
DATA_SETS = [task.data_set for task in TASKS.values()]
EXAMPLES = """examples:
  python -m helpers train segmentation --model unet
      the U-Net on drawn streets, small enough for a laptop
  python -m helpers train classification --preset report --data ~/birds --seed 1
      the report's ResNet-18 on real birds, from other initial weights
  accelerate launch --multi_gpu --num_processes 4 -m helpers train segmentation
      the same training on four GPUs (ACCELERATE_USE_CPU=true before it: on four CPU processes)"""


def make_parser():
    what = "Run the notebooks, here or in Colab; prepare data; train a network."
    parser = argparse.ArgumentParser(prog="python -m helpers", description=what)
    commands, place = parser.add_subparsers(dest="command", required=True), {"type": folder, "metavar": "DIR"}
    run = commands.add_parser("run", help="run the notebooks and write a report").add_argument
    run("notebooks", nargs="*", type=notebook, metavar="1|2|3", help="which of them; default: all")
    run("--seeds", type=int, default=1, metavar="N", help="train every network N times, seeds 0 to N - 1")
    run("--out", **place, help="where the report goes; default: reports/<preset>[-<data>][-seedsN]")
    run("--store", action="store_true", help="keep the outputs in notebooks/, of more seeds in the README")
    for name in DATA_SETS:
        run(f"--{name}", metavar="DIR", help=f"real {name} instead of the drawn ones")

    prepare = commands.add_parser("prepare", help="check or download a data set, decode it").add_argument
    prepare("name", choices=DATA_SETS)
    prepare("--from", dest="source", metavar="DIR", help="a folder or archive that holds it")
    prepare("--classes", type=int, metavar="N", help="keep the first so many species (400 of BIRDS 525)")
    prepare("--skip-bad", action="store_true", help="leave bad files out, however many")

    colab = commands.add_parser("colab", help="write the notebooks for Google Colab, to be uploaded")
    colab.add_argument("--out", **place, help="where they go; default: reports/colab")

    train = commands.add_parser(
        "train",
        help="train one network without a notebook",
        description="Train one network and evaluate it on the test part of its data. Every finished epoch\n"
        "is saved: the same command, run again, goes on where it was stopped.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    changes = train.add_argument_group("instead of the preset's own, see helpers/presets.py").add_argument
    train = train.add_argument
    models = "; ".join(f"{name}: {', '.join(task.networks)}" for name, task in TASKS.items())
    train("task", choices=TASKS, help="what is to be learnt")
    train("--model", metavar="NAME", help=f"{models}; default: the first")
    train("--data", metavar="DIR", help="the task's pictures; default: the preset's")
    train("--out", **place, help="gets the runs; default: reports/<preset>/runs")
    train("--mirror", **place, help="gets a copy after each epoch (Google Drive, say)")
    train("--precision", choices=("no", "bf16", "fp16"), help="no is fp32; default: the device's best")
    words = re.findall(r"^ {8}(\w+): ((?:.|\n {12})+)", Settings.__doc__, re.MULTILINE)
    told = {name: " ".join(text.replace("`", "").split()) for name, text in words}
    for field in fields(Settings):
        kind = {tuple[int, int]: pixels, str: str, float: float, float | None: float}.get(field.type, int)
        shown = {pixels: "HxW", int: "N", float: "X", str: "NAME"}[kind]
        changes(f"--{field.name.replace('_', '-')}", type=kind, metavar=shown, help=told[field.name])

    for add, default in ((run, "quick"), (prepare, "report"), (train, "quick")):
        add("--preset", choices=PRESETS, default=default, help=f"default: {default}")
    return parser


def notebook(text):
    if text not in ("1", "2", "3"):  # no ``choices``, which some Pythons refuse beside nargs="*"
        raise argparse.ArgumentTypeError(f"no notebook {text!r}: choose 1, 2 or 3")
    return text


def pixels(text):
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def folder(path):
    """The folder to write to; what is there already must be one."""
    path = Path(path).expanduser().absolute()
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise argparse.ArgumentTypeError(f"{part} is a file: give a folder to write to")
    return path


def main(arguments=None):
    options = (parser := make_parser()).parse_args(arguments)
    try:
        {"run": run, "prepare": prepare, "colab": colab, "train": train}[options.command](options)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command carries on from here")
    except (DataError, RuntimeError, OSError, FloatingPointError) as error:
        if type(error) is RuntimeError and not extract_tb(error.__traceback__)[-1].line.startswith("raise"):
            raise  # torch's, of the code of one's own network perhaps: where it was matters
        sys.exit(f"{options.command}: {error}")
    except ValueError as error:  # of what was asked for
        parser.exit(2, f"{options.command}: {error}\n")


def run(options):
    from helpers.publishing.notebooks import NOTEBOOKS, execute_all
    from helpers.publishing.report import write_report

    sources = {name: getattr(options, name) for name in DATA_SETS if getattr(options, name)}
    if options.seeds < 1:
        raise ValueError(f"--seeds {options.seeds}: give a whole number of at least 1")
    if options.store and sources:
        raise ValueError("--store keeps only outputs made from the drawn data: leave the data folders out")
    out = options.out or report_folder(options.preset, options.seeds, **sources)
    shown = str(out.relative_to(ROOT)) if out.is_relative_to(ROOT) else str(out)
    parameters = {"PRESET": options.preset, "SEEDS": options.seeds, "OUT": shown}
    paths = {name.upper(): str(Path(path).expanduser().absolute()) for name, path in sources.items()}
    keep = runpy.run_path(str(STORE)) if options.store else {}
    given = {}  # each notebook's parameters
    for notebook in NOTEBOOKS:
        if notebook.name[0] in (options.notebooks or "123"):
            text = notebook.read_text("utf-8")
            given[notebook] = parameters | {n: path for n, path in paths.items() if f"{n} =" in text}
    print(f"Runs {', '.join(n.stem for n in given)} into {shown}; if stopped, run this again", flush=True)
    for notebook, executed in execute_all(given, out):
        if options.store and options.seeds == 1:
            keep["store"](executed, notebook)
    if options.store and options.seeds > 1:
        command = f"python -m helpers run --preset {options.preset} --seeds {options.seeds}"
        keep["store_summary"](out / "results.json", command)
    elif options.store and not options.notebooks:
        keep["store_gallery"](out / "figures")
    print(f"To look at: {write_report(out, options.preset)}; to write on: report.tex beside it")


def prepare(options):
    from helpers.data import prepare

    (task,) = (task for task in TASKS.values() if task.data_set == options.name)
    size = getattr(preset(options.preset), task.name).size
    print(prepare(options.name, options.source, size, options.classes, options.skip_bad).inventory)


def colab(options):
    from helpers.publishing.colab import write_for_colab

    runpy.run_path(str(STORE))["refer"]()
    for path in write_for_colab(options.out or ROOT / "reports" / "colab"):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    print("Upload one at https://colab.research.google.com, and there: Runtime → Run all")


def train(options):
    from helpers.data import prepare_or_draw
    from helpers.engine.device import accelerator
    from helpers.training import evaluate, fit

    chosen, kind = preset(options.preset), TASKS[options.task]
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    changes = {name: value for name, value in given.items() if value is not None}
    settings = replace(getattr(chosen, options.task), **changes)
    kind.check(settings)
    model = options.model or next(iter(kind.networks))
    if model not in kind.networks:  # said before the data are prepared, which may take long
        raise ValueError(f"no network {model!r} for {kind.name}: choose one of {', '.join(kind.networks)}")
    engine = accelerator(options.precision)
    out = options.out or ROOT / "reports" / options.preset / "runs"
    engine.print(f"{model}, {settings}, into {out}")
    # One process of each machine prepares the data, the others find it done and say nothing.
    silent = nullcontext() if engine.is_main_process else redirect_stdout(None)
    with engine.local_main_process_first(), silent:
        data = prepare_or_draw(kind.data_set, source=options.data or chosen.source, size=settings.size)
    net = build(task := kind(data, settings), model)
    list(fit(net, task, data, folder=out, mirror=options.mirror))
    scores = evaluate(net, task, data.test)
    engine.print(f"test: loss {scores['valid_loss']:.4f}, {task.metric} {scores[task.metric]:.4f}")
    engine.end_training()
