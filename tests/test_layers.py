"""Who may import whom: the layers of the package, read from the source itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "clinicalfmamba_nets"
NAME = PACKAGE.name
ALL_BELOW = {"ops", "blocks", "nets", "functional", "losses", "metrics", "transforms", "data", "io", "spatial"}
LAYERS = {
    "errors": set(),
    "ops": set(),
    "functional": set(),
    "blocks": {"ops"},
    "nets": {"blocks", "functional", "ops"},
    "losses": {"functional"},
    "metrics": {"functional"},
    "transforms": {"functional", "io", "spatial"},
    "data": {"functional", "io", "spatial"},
    "io": {"functional"},
    "spatial": {"functional", "io"},
    "engine": ALL_BELOW,
    "cli": ALL_BELOW | {"engine"},
    "__init__": {"engine"},
    "__main__": {"cli"},
}
TORCH_ONLY = {"ops", "functional"}
ON_DEMAND = {"triton_kernels", "triton_gradients"}  # modules of ops that need Triton: imported inside functions alone
LATE = {"mamba_ssm", "causal_conv1d", "nibabel", "pydicom", "itk", "matplotlib", "PIL", "skimage"}
LATE |= {"highdicom", "requests", "retrying", "dicomweb_client"}


def layer_of(path: Path) -> str:
    """Name of the layer that a source file belongs to: its folder, or its own name at the package's root."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def absolute_name(node: ast.ImportFrom, path: Path) -> str:
    """Full dotted name that a (possibly relative) from-import starts at."""
    if not node.level:
        return node.module or ""
    package = (NAME, *path.relative_to(PACKAGE).parts[:-1])
    base = package[: len(package) - node.level + 1]
    return ".".join((*base, *filter(None, [node.module])))


def imported_names(tree: ast.AST, path: Path) -> list[tuple[int, str]]:
    """Line and full dotted name of everything that the code under `tree` imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute_name(node, path)
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def top_level_names(tree: ast.Module, path: Path) -> list[tuple[int, str]]:
    """As `imported_names`, without what is imported inside functions or under `if TYPE_CHECKING`."""
    found = []
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += imported_names(node, path)
        stack += list(ast.iter_child_nodes(node))
    return found


def layer_faults(path: Path, source: str) -> list[str]:
    """Imports in one file that its layer does not allow, one line each."""
    layer, tree, faults = layer_of(path), ast.parse(source), []
    allowed = LAYERS.get(layer, set()) | {layer, "errors", "__init__"}
    for line, name in imported_names(tree, path):
        parts = name.split(".")
        if parts[0] == NAME:
            target = parts[1] if len(parts) > 1 and parts[1] in LAYERS else "__init__"
            if target not in allowed:
                faults.append(f"{path.relative_to(PACKAGE)}:{line}: {layer} imports {target}")
    for line, name in top_level_names(tree, path):
        root = name.split(".")[0]
        if root in LATE:
            faults.append(f"{path.relative_to(PACKAGE)}:{line}: {root} is imported at the top of the module")
        known = {"torch", NAME, "triton"} if path.stem in ON_DEMAND else {"torch", NAME}
        if path.stem not in ON_DEMAND and ON_DEMAND & set(name.split(".")):
            faults.append(f"{path.relative_to(PACKAGE)}:{line}: {name} is imported at the top of the module")
        if layer in TORCH_ONLY and root not in known and root not in sys.stdlib_module_names:
            faults.append(
                f"{path.relative_to(PACKAGE)}:{line}: {layer} imports {root}; torch and the standard library only"
            )
    return faults


def sources() -> list[Path]:
    """Every Python file of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "bundles" not in path.relative_to(PACKAGE).parts)


def test_every_layer_is_known():
    assert {layer_of(path) for path in sources()} <= set(LAYERS), "a new folder or module needs a row in LAYERS"


def test_imports_follow_the_layers():
    faults = [fault for path in sources() for fault in layer_faults(path, path.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("ops/x.py", "from clinicalfmamba_nets.nets import ClinicalFMamba", "ops imports nets"),
        ("ops/x.py", "import triton", "torch and the standard library only"),
        ("ops/x.py", "from clinicalfmamba_nets.ops.triton_kernels import carry", "is imported at the top"),
        ("ops/x.py", "import numpy", "torch and the standard library only"),
        ("metrics/x.py", "from ..losses import FusionLoss", "metrics imports losses"),
        ("engine/x.py", "from .. import cli", "engine imports cli"),
        ("nets/x.py", "def f():\n    from ..engine import preview", "nets imports engine"),
        ("io/png.py", "from PIL import Image", "PIL is imported at the top"),
        ("cli/x.py", "import mamba_ssm", "mamba_ssm is imported at the top"),
    ],
)
def test_a_forbidden_import_is_found(file, line, fault):
    assert any(fault in found for found in layer_faults(PACKAGE / file, line))


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("ops/x.py", "import math\nimport torch.nn.functional as F\nfrom .reference import selective_scan"),
        ("ops/triton_kernels.py", "import triton.language as tl"),
        ("ops/x.py", "def load():\n    from clinicalfmamba_nets.ops.triton_kernels import carry"),
        ("io/png.py", "def read():\n    from PIL import Image\n    return Image"),
        ("engine/x.py", "from ..errors import input_error\nfrom ..transforms import LoadImagePaird"),
        ("cli/x.py", "from .. import __version__"),
    ],
)
def test_an_allowed_import_passes(file, line):
    assert layer_faults(PACKAGE / file, line) == []


# The rooms of engine, by floor: each may use those on the floors below it, whether at the top or inside a function.
FLOORS = {"run": 0, "pictures": 1, "fusion": 2, "training": 3, "evaluation": 3, "grading": 3, "exporting": 4}


def room_faults(path: Path, source: str) -> list[str]:
    """Imports of one file of engine that lead up, or across to another room on its own floor."""
    room, faults = path.relative_to(PACKAGE).parts[1], []
    for line, name in imported_names(ast.parse(source), path):
        parts = name.split(".")
        other = parts[2] if parts[:2] == [NAME, "engine"] and len(parts) > 2 else room
        if other in FLOORS and other != room and FLOORS[other] >= FLOORS[room]:
            faults.append(f"{path.relative_to(PACKAGE)}:{line}: {room} imports {parts[2]}")
    return faults


def room_files() -> list[Path]:
    """Every file in a room of engine."""
    return sorted((PACKAGE / "engine").glob("*/*.py"))


def test_every_room_has_a_floor():
    assert {path.relative_to(PACKAGE).parts[1] for path in room_files()} == set(FLOORS)


def test_no_room_uses_one_above_it():
    faults = [fault for path in room_files() for fault in room_faults(path, path.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("engine/run/x.py", "from clinicalfmamba_nets.engine.fusion.case import Case", "run imports fusion"),
        ("engine/pictures/x.py", "def f():\n    from ..fusion import batch", "pictures imports fusion"),
        ("engine/training/x.py", "from clinicalfmamba_nets.engine.grading import log", "training imports grading"),
    ],
)
def test_a_climb_is_found(file, line, fault):
    assert any(fault in found for found in room_faults(PACKAGE / file, line))


def test_no_modules_of_engine_import_one_another():
    names = {".".join((NAME, *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in room_files()}
    known = {
        name: {found.rpartition(".")[0] if found not in names else found for _, found in imported_names(tree, path)}
        for name, path in names.items()
        for tree in [ast.parse(path.read_text(encoding="utf-8"))]
    }
    left = {name: found & set(names) - {name} for name, found in known.items()}
    while free := [name for name, found in left.items() if not found]:
        left = {name: found - set(free) for name, found in left.items() if name not in free}
    assert not left, f"a circle among {sorted(left)}"
