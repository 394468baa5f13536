"""The command line: run the notebooks, prepare data, train and use a network, teach with them."""

import argparse
import contextlib
import os
import runpy
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from helpers import DATA, REPORTS, ROOT
from helpers.engine.checkpoint import CheckpointError
from helpers.presets import PRESETS, Settings, concerns, preset
from helpers.publishing.notebooks import NOTEBOOKS, STUDY, NotebookFailed, execute_all
from helpers.publishing.predicting import find_run, predict_files
from helpers.results import check_preset, report_folder
from helpers.tasks import TASKS, build

DATA_SETS = {task.data_set: name for name, task in TASKS.items()}
EXPECTED = (CheckpointError, FloatingPointError, MemoryError, NotebookFailed, OSError)
Parser = partial(
    argparse.ArgumentParser,
    allow_abbrev=False,  # --seed is not --seeds
    formatter_class=partial(argparse.HelpFormatter, max_help_position=24, width=100),
)


def main(arguments=None):
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # of a notebook, which shows every letter
            stream.reconfigure(errors="replace")  # some terminals and files have fewer letters
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        options.action(options)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command carries on from here")
    except EXPECTED as error:
        sys.exit(f"{options.command}: {error}")
    except ValueError as error:  # of what was asked for, or of its data
        parser.exit(2, f"{options.command}: {error}\n")


def make_parser():
    parser = Parser(prog="python -m helpers", description="What do skip connections buy?")
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=Parser, metavar="COMMAND"
    )
    add_run(commands)
    add_prepare(commands)
    add_train(commands)
    add_predict(commands)
    add_export(commands)
    add_teaching(commands)
    colab = commands.add_parser("colab", help="write the notebooks for Google Colab and Kaggle")
    colab.set_defaults(action=pack_for_colab)
    add_folder(colab, "--out", "for the files; default: reports/colab")
    return parser


def add_run(commands):
    run = commands.add_parser("run", help="run the notebooks and write a report")
    run.set_defaults(action=run_notebooks)
    run.add_argument(
        "notebooks",
        nargs="*",
        type=chapter,
        metavar="NUMBER",
        help="1, 2, 3 or study; default: the three lessons",
    )
    add_preset(run, "quick")
    run.add_argument("--seeds", type=int, default=1, help="how often to train each network")
    run.add_argument("--seed", type=int, default=0, help="the first seed; default: 0")
    run.add_argument(
        "--student", metavar="NAME", default="", help="for synthetic images of this student's own"
    )
    for name in DATA_SETS:
        add_data(run, name, "the preset's", f"--{name}")
    add_root(run)
    add_folder(run, "--out", "for the report; default: reports/<preset>[-<data>]")


def add_prepare(commands):
    prepare = commands.add_parser(
        "prepare", help="check a data set, or download it, and decode it once"
    )
    prepare.set_defaults(action=prepare_data)
    prepare.add_argument("name", choices=DATA_SETS, metavar="NAME", help=", ".join(DATA_SETS))
    add_preset(prepare, "report")
    add_data(prepare, "images", "data/, or a download", "--data", "--from")
    prepare.add_argument("--classes", type=int, help="birds: use only so many species")
    prepare.add_argument(
        "--skip-bad", action="store_true", help="leave bad files out, however many there are"
    )
    add_root(prepare)


def add_train(commands):
    train = commands.add_parser("train", help="train one network without a notebook")
    tasks = train.add_subparsers(dest="task", required=True, parser_class=Parser, metavar="TASK")
    for task in TASKS.values():
        add_train_task(tasks, task)


def add_train_task(tasks, task):
    train = tasks.add_parser(
        task.name,
        help=f"on {task.data_set}",
        usage=f"python -m helpers train {task.name} [options]",
        description="Train one network and evaluate it on the test set. Every finished epoch is "
        "saved: the same command, run again, goes on where it was stopped.",
        epilog="On four GPUs: accelerate launch --multi_gpu --num_processes 4 -m helpers train "
        + task.name,
    )
    train.set_defaults(action=train_network)
    train.add_argument(
        "--model",
        choices=task.models,
        default=next(iter(task.models)),
        metavar="NAME",
        help=f"{listed(task.models)}; default: %(default)s",
    )
    add_preset(train, "quick")
    add_data(train, task.data_set, "the preset's", "--data")
    add_root(train)
    add_folder(train, "--out", "for the runs; default: runs/ in the folder of such a report")
    add_folder(train, "--mirror", "for a copy of each epoch, such as one on Google Drive")
    train.add_argument(
        "--continue", dest="start", metavar="RUN", help="begin with the weights of that run"
    )
    settings = train.add_argument_group("settings, instead of those of the preset")
    kinds = {tuple[int, int]: pixels, int | None: int, float | None: float}
    for field in fields(Settings):
        if not concerns(field, task.name):
            continue
        known = field.metadata["known"]
        if field.name == "loss":
            known = task.known_losses
        says = field.metadata["help"]
        if known:
            says += f": {listed(known)}"
        settings.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kinds.get(field.type, field.type),
            choices=known or None,
            metavar="X",
            help=says,
        )


def add_predict(commands):
    predict = commands.add_parser(
        "predict", help="answers of a trained network for images of your own"
    )
    predict.set_defaults(action=predict_images)
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="a file or a folder of images")
    add_task(predict)
    add_trained(predict)
    add_folder(predict, "--out", "for the answers; default: predictions/<run>")


def add_export(commands):
    export = commands.add_parser("export", help="write a trained network as an ONNX file")
    export.set_defaults(action=export_network)
    add_task(export)
    export.add_argument("--model", metavar="NAME", help="as for train; default: any")
    add_trained(export)
    export.add_argument("--out", metavar="FILE", help="default: <run>.onnx")


def add_teaching(commands):
    handout = commands.add_parser(
        "handout",
        help="write the lessons as assignments, with gaps for students",
        description="Writes students/, the notebooks to hand out, and source/, the same with "
        "solutions and hidden tests. In their folder, nbgrader takes source/ as it is. "
        "notebooks/README.md has the commands.",
        epilog="Students who have this package can read its code: look at what they wrote, too.",
    )
    handout.set_defaults(action=hand_out)
    add_folder(handout, "--out", "for both; default: reports/handout")
    handout.add_argument(
        "--points",
        type=int,
        nargs="+",
        default=[5, 4],
        metavar="N",
        help="of each gap, and of each exercise if they differ; default: 5 4",
    )
    handout.add_argument(
        "--colab", action="store_true", help="students' notebooks bring the project along"
    )
    handin = commands.add_parser("handin", help="pack notebooks and scores, with a summary")
    handin.set_defaults(action=hand_in)
    add_folder(
        handin,
        "--run",
        "of the run, with the notebooks in it or beside it; default: run/, or that of the handout",
    )
    handin.add_argument("--out", metavar="FILE", default="handin.zip", help="default: handin.zip")


def add_task(parser):
    parser.add_argument("--task", required=True, choices=TASKS, metavar="TASK", help=listed(TASKS))


def add_trained(parser):
    parser.add_argument(
        "--run", metavar="RUN", help="folder of a run, or of several; default: the last one trained"
    )


def add_preset(parser, default):
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default=default,
        metavar="NAME",
        help=f"{listed(PRESETS)}; default: {default}",
    )


def add_data(parser, name, otherwise, *options):
    parser.add_argument(
        *options,
        metavar="DIR",
        help=f"folder or archive of your {name}; default: {otherwise}",
    )


def add_root(parser):
    add_folder(parser, "--root", "for prepared data; default: $COURSEWORK_DATA, or data/")


def add_folder(parser, option, says):
    parser.add_argument(option, type=folder, metavar="DIR", help=f"folder {says}")


def listed(names):
    """Names as a sentence has them: "one, two or three"."""
    *others, last = names
    if not others:
        return last
    return f"{', '.join(others)} or {last}"


def chapter(text):
    """What ``run`` runs; no ``choices``, which Python 3.11 refuses beside nargs="*"."""
    if text not in ("1", "2", "3", "study"):
        raise argparse.ArgumentTypeError(f"no notebook {text!r}: choose 1, 2, 3 or study")
    return text


def pixels(text):
    """A size: "96x128" is (96, 128), and "64" is (64, 64)."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def folder(path):
    """The folder to write to; what is there already must be one."""
    if not path:
        raise argparse.ArgumentTypeError("an empty name: give a folder to write to")
    path = Path(path).expanduser().absolute()
    for part in (path, *path.parents):
        if part.is_file():
            raise argparse.ArgumentTypeError(f"{part} is a file: give a folder to write to")
    return path


def run_notebooks(options):
    from helpers.publishing.report import write_report

    if options.seeds < 1:
        raise ValueError(f"--seeds {options.seeds}: give a whole number of at least 1")
    preset(options.preset, options.seed)  # raises ValueError for a wrong seed
    sources = {name: getattr(options, name) for name in DATA_SETS}
    about = options.preset, options.seeds, options.seed, options.student
    out = options.out or report_folder(*about, **sources)
    if options.root:
        os.environ["COURSEWORK_DATA"] = str(options.root)  # for the notebooks' kernels

    given = {
        "PRESET": options.preset,
        "STUDENT": options.student,
        "SEEDS": options.seeds,
        "SEED": options.seed,
        "OUT": str(out),
    }
    for data_set, source in sources.items():
        if source and source != "synthetic":
            source = Path(source).expanduser().absolute()
        if source:
            given[data_set.upper()] = str(source)
    asked = options.notebooks or ["1", "2", "3"]
    chosen = [lesson for lesson in NOTEBOOKS if lesson.name[0] in asked]
    if "study" in asked:
        chosen += STUDY

    check_preset(out, options.preset)
    print(f"Runs {len(chosen)} notebooks into {out}; if stopped, run this again", flush=True)
    execute_all(chosen, given, out)
    page = write_report(out, options.preset)
    print(f"To look at: {page}; to write on: report.tex beside it")


def prepare_data(options):
    from helpers.data import prepare

    size = getattr(PRESETS[options.preset], DATA_SETS[options.name]).size
    root = options.root or DATA
    data = prepare(options.name, options.data, size, options.classes, options.skip_bad, root)
    print(data.inventory)


def train_network(options):
    from helpers.data import prepare_or_draw
    from helpers.engine.device import accelerator
    from helpers.training import evaluate, fit

    chosen = PRESETS[options.preset]
    kind = TASKS[options.task]
    changes = {}
    for field in fields(Settings):
        value = getattr(options, field.name, None)
        if value is not None:
            changes[field.name] = value
    settings = replace(getattr(chosen, options.task), **changes)
    kind.check(settings)
    start = None
    if options.start:
        start = find_run(options.task, options.start)

    engine = accelerator(settings.precision)
    source = options.data or chosen.source
    out = options.out
    if out is None:
        out = report_folder(options.preset, **{kind.data_set: options.data}) / "runs"
    engine.print(f"{options.model}, {settings}, into {out}")
    with engine.local_main_process_first():  # the others find the data prepared
        data = prepare_or_draw(
            kind.data_set, source=source, size=settings.size, root=options.root or DATA
        )
    task = kind(data, settings)
    model = build(task, options.model)
    list(fit(model, task, data, folder=out, mirror=options.mirror, start=start))
    for score, value in evaluate(model, task, data.test).items():
        engine.print(f"test set: {score.replace('valid_', '')} {value:.4f}")
    engine.end_training()


def predict_images(options):
    predict_files(options.images, options.task, options.run, options.out)


def export_network(options):
    from helpers.publishing.export import export_run

    export_run(options.task, options.model, options.run, options.out)


def hand_out(options):
    from helpers.publishing.handout import write_handout

    for path in write_handout(options.out or REPORTS / "handout", options.points, options.colab):
        print(path)


def hand_in(options):
    from helpers.publishing.handin import write_handin

    run = options.run or Path("run")
    if not options.run and not run.exists():
        run = REPORTS / "handout/students/run"
    place, text = write_handin(run, Path(options.out))
    print(f"{text}\n\n{place}: hand in this file")


def pack_for_colab(options):
    from helpers.publishing.colab import write_for_colab

    store = runpy.run_path(str(ROOT / "notebooks/store.py"))
    store["refer"]()
    for path in write_for_colab(options.out or REPORTS / "colab"):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    print("Upload one at https://colab.research.google.com or https://www.kaggle.com, and run all")
