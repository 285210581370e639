"""What an installation holds, and that the commands of the Makefile and the pins agree with it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

LIMIT = 25 * 1024 * 1024
CONFIGS = ("inference.json", "train.json", "metadata.json", "logging.conf")


def project_table(checkout: Path) -> dict:
    """Read pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    return tomllib.loads((checkout / "pyproject.toml").read_text())


def plain_name(requirement: str) -> str:
    """Name of a requirement, in the form in which names are compared."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def pins(checkout: Path) -> list[str]:
    """Lines of requirements.txt without comments."""
    lines = (checkout / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_package_is_listed(checkout):
    listed = set(project_table(checkout)["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(checkout).parts)
        for path in (checkout / "clinicalfmamba_nets").rglob("__init__.py")
        if "bundles" not in path.relative_to(checkout).parts
    }
    assert listed == found | {"clinicalfmamba_nets.bundles"}


def test_every_requirement_is_pinned(checkout):
    assert all(re.fullmatch(r'[\w.-]+==[\w.+]+(; python_version (<|>=) "3\.11")?', line) for line in pins(checkout))


def test_pins_cover_what_the_package_needs(checkout):
    project = project_table(checkout)["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["export"], *extras["test"]]
    assert {plain_name(name) for name in needed} <= {plain_name(line) for line in pins(checkout)}


def test_version_is_one(checkout):
    import clinicalfmamba_nets

    version = project_table(checkout)["project"]["version"]
    assert version == clinicalfmamba_nets.__version__
    citation = (checkout / "CITATION.cff").read_text()
    (date,) = re.findall(r"^date-released: (\S+)$", citation, re.MULTILINE)
    assert f"\nversion: {version}\n" in citation
    headings = re.findall(r"^## (?!Unreleased$)(.*)$", (checkout / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == f"{version} - {date}" and headings == sorted(headings, reverse=True)


def test_changelog_sorts_its_lines_by_release_and_kind(checkout):
    for number, release in enumerate((checkout / "CHANGELOG.md").read_text().split("\n## ")[1:]):
        heading, *parts = release.split("\n### ")
        kinds = [part.splitlines()[0] for part in parts]
        dated = re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", heading.strip())
        assert dated or (number == 0 and heading.strip() == "Unreleased")
        assert kinds == [kind for kind in ("Added", "Changed", "Fixed", "Removed") if kind in kinds] and kinds
        assert all(re.fullmatch(r"- \S.*", line) for part in parts for line in part.splitlines()[1:] if line)


def test_monai_is_new_enough_for_its_advisories(checkout):
    assert "monai>=1.6.1" in project_table(checkout)["project"]["dependencies"]


def test_ci_script_is_executable_and_starts_with_the_quick_tests(checkout):
    script = checkout / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    steps = re.findall(r'^ *(?:if )?step "[^$].*', text, re.MULTILINE)
    assert "make test;" in steps[0] and "make test-slow" in steps[-2] and "table of cases" in steps[-1]
    assert "make test-cases" in text and "make docs" in text
    apps = re.findall(r"^ *app (\w+) ", text, re.MULTILINE)
    limits = [
        int(minutes)
        for line in [*steps, *re.findall("^ *app .*", text, re.MULTILINE)]
        for minutes in re.findall(r"\b(\d+)m\b", line)
    ]
    assert apps == ["triton", "deploy", "label"] and sum(limits) < 90, "minutes"
    assert subprocess.run(["bash", "-n", str(script)], timeout=20).returncode == 0


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ((), 'clinicalfmamba fuse --phantom --output "fused"'),
        (("A=m.png", "B=c.png", "OUT=o", "TASK=pet_mri"), 'fuse "m.png" "c.png" --output "o" --task pet_mri'),
    ],
)
def test_make_fuse_calls_the_command_line(checkout, settings, command):
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    done = subprocess.run(
        ["make", "-n", "fuse", *settings],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=20,
        env=plain_environment(),
    )
    assert done.returncode == 0 and command in done.stdout


def plain_environment(**changes: str) -> dict[str, str]:
    """The environment without what make or another test run put into it."""
    dropped = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH", "CLINICALFMAMBA_BUNDLES"}
    return {**{name: value for name, value in os.environ.items() if name not in dropped}, **changes}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of the present sources, built in a copy so that the checkout stays clean."""
    root = Path(__file__).resolve().parents[1]
    copy = tmp_path_factory.mktemp("source") / "project"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "output", "eval"))
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
        str(copy),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=plain_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_a_build_keeps_nothing_of_an_earlier_one(tmp_path, checkout):
    copy = tmp_path / "project"
    left_out = shutil.ignore_patterns(".*", "tests", "docs", "build", "*.egg-info", "output", "eval", "*.pt", "*.so")
    shutil.copytree(checkout, copy, ignore=left_out)
    built = copy / "build" / "lib" / "clinicalfmamba_nets"
    old = [built / "removed.py", built / "ops" / "native" / "lib" / "clinicalfmamba-x86-64-0123456789abcdef.so"]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", "build/lib"]
    environment = plain_environment(CLINICALFMAMBA_NATIVE="0")
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (built / "__init__.py").is_file() and not any(path.exists() for path in old)


@pytest.mark.hour
def test_wheel_holds_the_bundles_and_nothing_else_of_the_project(wheel, checkout):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {item.filename: item.file_size for item in archive.infolist()}
    folder = "clinicalfmamba_nets/bundles/fusion_2d"
    assert {f"{folder}/configs/{name}" for name in CONFIGS} | {f"{folder}/LICENSE"} <= set(sizes)
    weights = {path.name for path in (checkout / "bundles" / "fusion_2d" / "models").glob("*.pt")}
    assert {f"{folder}/models/{name}" for name in weights} <= set(sizes)
    assert all(name.startswith(("clinicalfmamba_nets/", "clinicalfmamba_nets-")) for name in sizes)
    assert max(sizes.values()) <= LIMIT
    assert any(name.endswith("licenses/LICENSE") for name in sizes)
    assert any(name.endswith("licenses/THIRD_PARTY.md") for name in sizes)


@pytest.mark.hour
def test_installed_package_fuses_from_anywhere(wheel, checkout, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=plain_environment())
    models = site / "clinicalfmamba_nets" / "bundles" / "fusion_2d" / "models"
    models.mkdir(exist_ok=True)
    shutil.copy(checkout / "bundles" / "fusion_2d" / "models" / "model.pt", models)

    cache = tmp_path / "cache"
    no_compiler = str(tmp_path)
    alone = {"PYTHONPATH": str(site), "PATH": no_compiler, "XDG_CACHE_HOME": str(cache)}

    def run(*words: str) -> subprocess.CompletedProcess:
        program = [sys.executable, str(site / "bin" / "clinicalfmamba"), *words]
        environment = {name: value for name, value in plain_environment(**alone).items() if name != "CXX"}
        return subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    info = run("info")
    assert info.returncode == 0, info.stderr
    assert str(site / "clinicalfmamba_nets" / "bundles" / "fusion_2d") in info.stdout
    assert re.search(r"^\* native +yes .*, built at install$", info.stdout, re.MULTILINE), info.stdout
    fused = run("fuse", "--phantom", "-o", "out")
    assert fused.returncode == 0, fused.stderr
    assert (tmp_path / "out" / "phantom_fused.png").is_file()
    exported = run("export", "--format", "ts", "-o", "ct_mri.ts", "--library", "lib")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "lib" / "libclinicalfmamba_torch.so").is_file() and not list(cache.rglob("*.so"))
