"""The package stays readable: what there is to read is counted in tokens, whatever the line breaks.

Tokens are Python's own, without comments and layout; a docstring is one.
"""

import ast
import re
import tokenize
from pathlib import Path

import nbformat
import pytest

from helpers.publishing.notebooks import NOTEBOOKS, STUDY

pytestmark = pytest.mark.maintain
HELPERS = Path(__file__).resolve().parents[1] / "helpers"
MACHINERY = ("data", "engine", "publishing")
FILES = {path.relative_to(HELPERS).as_posix(): path for path in sorted(HELPERS.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
SURFACE = [name for name in FILES if name.split("/")[0] not in MACHINERY]
LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def tokens_of(path):
    with tokenize.open(path) as file:
        return [t for t in tokenize.generate_tokens(file.readline) if t.type not in LAYOUT]


TOKENS = {name: tokens_of(path) for name, path in FILES.items()}
CODE_LINES = {name: len({token.start[0] for token in found}) for name, found in TOKENS.items()}


def count(names):
    return sum(len(TOKENS[name]) for name in names)


def test_the_package_is_small():
    assert count(FILES) <= 50_910
    assert count(SURFACE) <= 28_310


def test_its_lines_are_not_dense():
    assert count(FILES) / sum(CODE_LINES.values()) <= 9.5
    dense = {name: len(found) / max(1, CODE_LINES[name]) for name, found in TOKENS.items()}
    assert [name for name, density in dense.items() if density > 11] == []


def nodes(kind):
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield name, node


def place(name, node):
    return f"{name}:{node.lineno}"


def test_a_statement_assigns_one_thing():
    packed = [
        place(name, node)
        for name, node in nodes(ast.Assign)
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
    ]
    assert len(packed) <= 8 * sum(CODE_LINES.values()) / 1000, packed


def is_condition(node):
    negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    return negated or isinstance(node, ast.Compare | ast.BoolOp)


def test_nothing_is_multiplied_or_indexed_by_a_condition():
    found = [
        place(name, node)
        for name, node in nodes(ast.BinOp)
        if isinstance(node.op, ast.Mult) and (is_condition(node.left) or is_condition(node.right))
    ]
    found += [place(name, node) for name, node in nodes(ast.Subscript) if is_condition(node.slice)]
    assert found == []


def test_a_walrus_stands_only_in_while_and_in_the_conditions_of_comprehensions():
    allowed = set()
    for _, node in nodes(ast.While | ast.comprehension):
        conditions = [node.test] if isinstance(node, ast.While) else node.ifs
        allowed.update(inner for condition in conditions for inner in ast.walk(condition))
    assert [place(*found) for found in nodes(ast.NamedExpr) if found[1] not in allowed] == []


def test_plurals_are_made_in_one_place():
    ends = [
        place(name, node)
        for name, node in nodes(ast.IfExp | ast.BinOp)
        if any(
            isinstance(part, ast.Constant) and part.value == "s"
            for part in ast.iter_child_nodes(node)
        )
    ]
    assert ends == [], "use helpers.plural"


def test_an_environment_variable_is_read_in_one_place():
    read = {}
    for name, node in nodes(ast.Call | ast.Subscript):
        text = ast.unparse(node)
        if isinstance(node, ast.Call) and text.startswith(("os.environ.get(", "os.getenv(")):
            read.setdefault(ast.literal_eval(node.args[0]), []).append(place(name, node))
        if isinstance(node, ast.Subscript) and text.startswith("os.environ["):
            if isinstance(node.ctx, ast.Load):
                read.setdefault(ast.unparse(node.slice), []).append(place(name, node))
    assert {name: places for name, places in read.items() if len(places) > 1} == {}


@pytest.mark.parametrize("word", ["net", "bridge", "picture"])
def test_one_thing_has_one_name(word):
    found = []
    for name, tokens in TOKENS.items():
        for token in tokens:
            if token.type == tokenize.NAME:
                named = {word, f"{word}s"} & set(token.string.lower().split("_"))
            else:
                named = re.search(rf"(?<![\w-]){word}s?(?![\w-])", token.string.lower())
            if named:
                found.append(f"{name}:{token.start[0]}: {token.string}")
    assert found == []


def imported(name):
    """Dotted names of the modules of ``helpers`` that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = Path("helpers", name).with_suffix("").parts[: -node.level] if node.level else ()
            module = ".".join([*home, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def rooms(name):
    """The folders of machinery that a file imports from."""
    parts = [part.split(".")[1] for part in imported(name) if part.startswith("helpers.")]
    return {part for part in parts if part in MACHINERY}


@pytest.mark.parametrize("name", FILES)
def test_imports_go_one_way(name):
    room = name.split("/")[0]
    if room == "models":
        others = {part.split(".")[0] for part in imported(name)} - {
            "torch",
            "helpers",
            "itertools",
            "functools",
        }
        ours = {part for part in imported(name) if part.startswith("helpers")}
        assert not others and all(part.startswith("helpers.models") for part in ours)
    elif name in SURFACE:
        more = {
            "training.py": {"engine"},
            "results.py": {"engine", "publishing"},
            "photographs.py": {"publishing"},
            "notebook.py": {"publishing"},
            "__main__.py": {"publishing"},
            "__init__.py": {"publishing"},  # for ``predict``, when it is called
        }
        assert rooms(name) <= {"data"} | more.get(name, set())
    elif room in ("data", "engine"):
        ours = {part for part in imported(name) if part.startswith("helpers.")}
        surface = {"helpers." + other.removesuffix(".py").replace("/", ".") for other in SURFACE}
        assert not ours & surface and "publishing" not in rooms(name)
        assert room != "engine" or rooms(name) <= {"engine"}


def cells_of(path, kind):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def lines_of(cell):
    return len([line for line in cell.source.splitlines() if line.strip()])


@pytest.mark.parametrize("path", NOTEBOOKS + STUDY, ids=lambda path: path.stem)
def test_cells_are_short(path):
    long = [cell.source for cell in cells_of(path, "code") if lines_of(cell) > 12]
    assert long == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_is_read_in_16_minutes(path):
    """By words, lines of code and figures, without the answers that are folded away."""
    code = cells_of(path, "code")
    assert len(code) <= 26
    words = 0
    for cell in cells_of(path, "markdown"):
        words += len(re.sub("(?s)<details>.*?</details>", "", cell.source).split())
    outputs = [output for cell in code for output in cell.outputs]
    figures = [o for o in outputs if re.search("image/(png|jpeg)", str(list(o.get("data", {}))))]
    minutes = words / 200 + sum(map(lines_of, code)) / 25 + len(figures) / 3
    assert minutes <= 16, f"{minutes:.1f} minutes"
