"""Rules of the house that the source files themselves show."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clinicalfmamba_nets"
TEXT = {".py", ".md", ".json", ".toml", ".txt", ".conf", ".cpp", ".h", ".in", ".yml", ".yaml", ""}
LIMIT = 25 * 1024 * 1024
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp|root|home|Users|mnt|opt)/[\w.]")
OPEN_END = re.compile(r"\b(?:TODO|FIX" + r"ME|XXX|HACK)\b")
CUDA_CALL = re.compile(r"\.cuda\(|device\(\s*[\"']cuda|\.to\(\s*[\"']cuda|device\s*=\s*[\"']cuda")
# What came after Python 3.10, and is easily written by who works with a newer one.
NEWER = re.compile(
    r"hashlib\.file_digest|\.add_note\(|\bimport tomllib|ExceptionGroup|except\*|datetime\.UTC|itertools\.batched|"
    r"contextlib\.chdir|\bStrEnum\b|typing import .*\b(?:Self|override|assert_never|Unpack)\b"
)
MEDICAL_IMAGES = (".nii", ".nii.gz", ".dcm", ".ima", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".hdr")
BUILD_PRODUCTS = {".so", ".pyc", ".o", ".a", ".egg", ".whl", ".dll", ".dylib"}


def tracked() -> list[Path]:
    """Files that git tracks, or every source file where the project is not a git checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = [
            str(path.relative_to(ROOT))
            for name in ("clinicalfmamba_nets", "tests")
            for path in (ROOT / name).rglob("*.py")
        ]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    """Tracked text files with their contents."""
    return [(path, path.read_text(encoding="utf-8")) for path in tracked() if path.suffix in TEXT]


def package_sources() -> list[Path]:
    """Python files of the package."""
    return [path for path in tracked() if path.suffix == ".py" and PACKAGE in path.parents]


def lines_matching(pattern: re.Pattern[str], path: Path, text: str) -> list[str]:
    """`file:line: text` of each line in which the pattern occurs."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for number, line in lines if pattern.search(line)]


def undocumented(source: str) -> list[str]:
    """Names of the module, public classes and public functions in a source that have no docstring."""
    tree = ast.parse(source)
    missing = [] if ast.get_docstring(tree) or not tree.body else ["module"]
    stack = [("", tree)]
    while stack:
        prefix, parent = stack.pop()
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_") or node.name == "forward":
                continue
            if not ast.get_docstring(node):
                missing.append(f"{prefix}{node.name}")
            if isinstance(node, ast.ClassDef):
                stack.append((f"{node.name}.", node))
    return missing


@pytest.mark.parametrize("pattern", [MACHINE_PATH, OPEN_END], ids=["machine path", "open end"])
def test_no_file_holds(pattern):
    own = Path(__file__)
    found = [line for path, text in texts() if path != own for line in lines_matching(pattern, path, text)]
    assert not found, "\n".join(found)


def test_no_cuda_device_is_named_in_the_package():
    found = [line for path in package_sources() for line in lines_matching(CUDA_CALL, path, path.read_text())]
    assert not found, "\n".join(found)


def test_public_names_have_docstrings():
    faults = [
        f"{path.relative_to(ROOT)}: {name}" for path in package_sources() for name in undocumented(path.read_text())
    ]
    assert not faults, "\n".join(faults)


def test_no_build_product_and_no_large_file():
    faults = [str(path) for path in tracked() if path.suffix in BUILD_PRODUCTS or path.stat().st_size > LIMIT]
    assert not faults, "\n".join(faults)


def test_no_medical_image_is_in_the_project():
    faults = [str(path) for path in tracked() if path.name.lower().endswith(MEDICAL_IMAGES)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATH, 'DATA = "/' + 'home/someone/data"'),
        (OPEN_END, "# TO" + "DO: later"),
        (CUDA_CALL, "net = net.cuda()"),
        (CUDA_CALL, 'device = torch.device("cuda:0")'),
    ],
)
def test_a_broken_rule_is_found(pattern, line):
    assert lines_matching(pattern, ROOT / "x.py", line)


def test_missing_docstrings_are_found():
    source = "class A:\n    def b(self): ...\n    def _c(self): ...\ndef d():\n    'Told.'\n"
    assert undocumented(source) == ["module", "A", "A.b"]


MANY = 8  # arguments of a function
BY_POSITION = 6  # of many, how many may be given without their name


def many_by_position(source: str) -> list[str]:
    """Functions of many arguments that take most of them without a name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            own = [entry.arg for entry in (*node.args.posonlyargs, *node.args.args) if entry.arg not in ("self", "cls")]
            if len(own) + len(node.args.kwonlyargs) >= MANY and len(own) > BY_POSITION:
                found.append(node.name)
    return found


def test_many_arguments_are_given_by_name():
    # The operators' own order is PyTorch's and Mamba's: their schemas know no names.
    sources = [path for path in package_sources() if "ops" not in path.relative_to(PACKAGE).parts]
    assert {
        str(path): many_by_position(path.read_text()) for path in sources if many_by_position(path.read_text())
    } == {}
    assert many_by_position("def f(a, b, c, d, e, f, g, h): pass") == ["f"]


def test_shipped_code_knows_no_folder_of_a_developer():
    shipped = [
        path for path in tracked() if path.relative_to(ROOT).parts[0] in ("clinicalfmamba_nets", "bundles", "deploy")
    ]
    shipped = [path for path in shipped if path.suffix in TEXT]
    pattern = re.compile(r"shared/(data|cases|design)")
    assert [line for path in shipped for line in lines_matching(pattern, path, path.read_text(encoding="utf-8"))] == []


def test_nothing_newer_than_the_oldest_python():
    sources = [(path, path.read_text(encoding="utf-8")) for path in package_sources()]
    assert [line for path, text in sources for line in lines_matching(NEWER, path, text)] == []
