"""Who may import whom, kept by walking the imports of every module; and the front door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import onebox
from tests.small_runs import ROOT, python

PACKAGE = ROOT / "onebox"
UPPER_FLOOR = {"torch", "torchvision", "timm", "accelerate", "onnx", "onnxscript", "safetensors"}
#: The only modules of onebox.training that the ground floor may read: they import none of the above.
LIGHT = {"onebox.training.config"}


class Import(NamedTuple):
    """One import statement's target. `lazy`: inside a function; `typing_only`: under `if TYPE_CHECKING`."""

    importer: str
    target: str
    lazy: bool
    typing_only: bool


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _walk(node: ast.AST, lazy: bool = False, typing_only: bool = False) -> Iterator[tuple[ast.stmt, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy, typing_only
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _walk(child, lazy, True)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, lazy or inside, typing_only)


def _imports(importer: str) -> list[Import]:
    found = []
    for statement, lazy, typing_only in _walk(ast.parse(MODULES[importer].read_text("utf-8"))):
        if isinstance(statement, ast.Import):
            targets = [alias.name for alias in statement.names]
        else:
            assert isinstance(statement, ast.ImportFrom)
            assert statement.level == 0, f"{importer}: relative import"
            base = statement.module or ""
            # `from onebox.training import run_folder` imports a module, `from onebox.boxes import iou` a name
            targets = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in statement.names
            ]
        found += [Import(importer, target, lazy, typing_only) for target in targets]
    return found


IMPORTS = [one for importer in MODULES for one in _imports(importer)]


def _floor(module: str) -> str:
    return "upper" if module == "onebox.training" or module.startswith("onebox.training.") else "ground"


def test_the_walk_sees_what_is_there() -> None:
    assert Import("onebox.training.api", "torch", lazy=False, typing_only=False) in IMPORTS
    assert Import("onebox.runtime", "onnxruntime", lazy=True, typing_only=False) in IMPORTS
    assert Import("onebox.evaluation", "onebox.dataset", lazy=False, typing_only=True) in IMPORTS
    assert Import("onebox.training.api", "onebox.training.run_folder", lazy=False, typing_only=False) in IMPORTS


def test_the_ground_floor_never_imports_the_upper_floor_s_libraries() -> None:
    wrong = [i for i in IMPORTS if _floor(i.importer) == "ground" and i.target.partition(".")[0] in UPPER_FLOOR]
    assert wrong == []


def test_only_command_handlers_and_the_front_door_reach_onebox_training() -> None:
    reaching = [i for i in IMPORTS if _floor(i.importer) == "ground" and _floor(i.target) == "upper"]
    for one in reaching:
        handler = one.importer.startswith("onebox.cli.")
        allowed = (
            (handler and (one.lazy or one.typing_only or one.target in LIGHT))
            or (one.importer == "onebox" and one.typing_only)  # resolved by name on first use
        )
        assert allowed, one


def test_what_the_ground_floor_reads_of_the_upper_floor_is_light() -> None:
    seen, todo = set(), {*LIGHT, "onebox.training"}
    while todo:
        module = todo.pop()
        seen.add(module)
        for one in IMPORTS:
            if one.importer == module and not one.lazy and not one.typing_only:
                assert one.target.partition(".")[0] not in UPPER_FLOOR, one
                if one.target in MODULES and one.target not in seen:
                    todo.add(one.target)
    assert seen >= {"onebox.training", "onebox.training.config", "onebox.errors"}


def test_onnxruntime_is_imported_in_one_place() -> None:
    assert {i.importer for i in IMPORTS if i.target.partition(".")[0] == "onnxruntime"} == {"onebox.runtime"}


def test_errors_and_types_stand_at_the_bottom() -> None:
    def ours(importer: str) -> set[str]:
        return {i.target for i in IMPORTS if i.importer == importer and i.target.partition(".")[0] == "onebox"}

    assert ours("onebox.errors") == set()
    assert ours("onebox.types") <= {"onebox.errors"}
    assert ours("onebox.boxes") <= {"onebox.types", "onebox.errors"}
    assert ours("onebox.headers") == set()
    assert ours("onebox.images") <= {"onebox.types", "onebox.errors", "onebox.headers"}
    assert ours("onebox.manifest") <= {"onebox.errors"}


@pytest.mark.parametrize(
    ("who", "never"),
    [
        ("onebox.runtime", {"onebox.dataset", "onebox.evaluation", "onebox.metrics", "onebox.report", "onebox.cli"}),
        ("onebox.formats", {"onebox.runtime", "onebox.predictions", "onebox.metrics", "onebox.report", "onebox.cli"}),
        ("onebox.formats", {"onebox.dataset", "onebox.conversion", "onebox.doctor"}),
        ("onebox.conversion", {"onebox.doctor", "onebox.runtime", "onebox.report", "onebox.cli"}),
        ("onebox.calibration", {"onebox.runtime", "onebox.predictions", "onebox.metrics", "onebox.manifest", "PIL"}),
        ("onebox.calibrating", {"onebox.training", "onebox.dataset", "onebox.report", "onebox.cli"}),
        ("onebox.model_file", {"onebox.training", "onebox.dataset", "onebox.evaluation", "onebox.cli"}),
        ("onebox.metrics", {"onebox.runtime", "onebox.dataset", "onebox.cli"}),
        ("onebox.dataset", {"onebox.runtime", "onebox.metrics", "onebox.cli"}),
        ("onebox.doctor", {"onebox.runtime", "onebox.evaluation", "onebox.report", "onebox.training", "onebox.cli"}),
        ("onebox.report", {"onebox.training", "onebox.cli", "onebox.runtime"}),
        ("onebox.explanation", {"onebox.training", "onebox.dataset", "onebox.report", "onebox.cli"}),
        ("onebox.heatmaps", {"onebox.runtime", "onebox.predictions", "onebox.explanation", "onebox.cli"}),
        ("onebox.comparison", {"onebox.training", "onebox.cli", "onebox.report"}),
        ("onebox.evaluation_file", {"onebox.training", "onebox.cli", "onebox.report", "onebox.comparison"}),
        ("onebox.training", {"onebox.cli", "onebox.demo_data"}),
        ("onebox.labelling", {"onebox.web", "onebox.cli", "onebox.training", "onebox.doctor", "onebox.report"}),
        ("onebox.web.label", {"onebox.training", "onebox.dataset", "onebox.evaluation", "onebox.cli"}),
        ("onebox.web.problems", {"onebox.web.guard", "onebox.web.server", "onebox.runtime", "onebox.cli"}),
        ("onebox.web.guard", {"onebox.runtime", "onebox.web.server", "onebox.web.serve", "onebox.cli"}),
        ("onebox.web.server", {"onebox.runtime", "onebox.web.guard", "onebox.web.serve", "onebox.cli"}),
        ("onebox.web.serve", {"onebox.training", "onebox.dataset", "onebox.evaluation", "onebox.cli"}),
    ],
)
def test_nobody_reaches_upwards(who: str, never: set[str]) -> None:
    def within(module: str, package: str) -> bool:
        return module == package or module.startswith(f"{package}.")

    importing = [i for i in IMPORTS if within(i.importer, who) and not i.typing_only]
    assert importing, f"{who} is gone; correct this table"
    assert [i for i in importing if any(within(i.target, package) for package in never)] == []


def test_no_cycles_at_module_level() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for one in IMPORTS:
        if one.target in MODULES and not one.lazy and not one.typing_only and one.target != one.importer:
            graph[one.importer].add(one.target)
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert order.index("onebox.errors") < order.index("onebox.images") < order.index("onebox.runtime")


def test_no_pickle_and_no_drawers_for_odds_and_ends() -> None:
    pickling = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    assert [i for i in IMPORTS if i.target.partition(".")[0] in pickling] == []
    for name, path in MODULES.items():
        source = path.read_text("utf-8")
        assert "torch.save(" not in source, name
        assert "torch.load(" not in source, name
        assert "allow_pickle=True" not in source, name
        assert path.stem not in {"utils", "util", "common", "base", "helpers", "misc"}


def test_every_public_name_resolves_and_the_list_is_sorted() -> None:
    plain = [name for name in onebox.__all__ if not name.startswith("__")]
    assert plain == sorted(plain)
    assert onebox.__all__ == sorted(onebox.__all__)
    for name in onebox.__all__:
        assert getattr(onebox, name) is not None
    assert dir(onebox) == onebox.__all__
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = onebox.tarin


def test_importing_the_package_and_the_command_line_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'PIL', 'torch', 'onnxruntime', 'yaml', 'timm'}"
    for module in ("onebox", "onebox.training", "onebox.cli.app"):
        done = python("-c", f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))")
        assert (done.code, done.out.strip()) == (0, "[]"), (module, done.err)


def test_every_module_says_what_it_is() -> None:
    for name, path in MODULES.items():
        if name != "onebox._version":
            assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), name
    assert sys.version_info >= (3, 11)
