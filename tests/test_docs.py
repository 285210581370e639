"""What the documentation says is so: links, commands, settings and variables exist, servers stay on this machine."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from clinicalfmamba_nets.cli.arguments import PARSERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md", "bundles/*/docs/*.md", "findings/*.md")
    for path in ROOT.glob(pattern)
    if not {"generated", "_build"} & set(path.relative_to(ROOT).parts)
)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s#]+)(?:#[^)\s]*)?\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|`|&& |bin/)(clinicalfmamba (?!nets)[^`\n]*)", re.MULTILINE)
SERVERS = re.compile(r"start_server|http\.server|uvicorn|orthanc --|tensorboard --|jupyter (?:lab|notebook)")


@pytest.fixture(scope="module")
def generate():
    """The module that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(path: Path) -> str:
    """A page's name in messages and as the id of its tests."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    found = [one or other for one, other in LINK.findall(page.read_text(encoding="utf-8"))]
    local = [target for target in found if not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if not (page.parent / target.replace("../generated/", "")).exists()]
    made = {"command_line.md", "settings.md", "metrics.md", "python.md", "python_metrics.md"}
    assert [target for target in missing if Path(target).name not in made] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_taken_by_the_command_line(page):
    for command in COMMAND.findall(page.read_text(encoding="utf-8")):
        words = shlex.split(command.split("  #")[0].split(" && ")[0], comments=True)
        if len(words) > 2 and words[1] in PARSERS and "|" not in command:
            parser = PARSERS[words[1]][0]()
            given = {"-o", "--output"} & set(words) or "-o" not in parser._option_string_actions
            parser.parse([word.strip("[]") for word in words[2:] if word != "..."] + ([] if given else ["-o", "OUT"]))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_servers_stay_on_this_machine(page):
    for line in page.read_text(encoding="utf-8").splitlines():
        if SERVERS.search(line):
            assert "127.0.0.1" in line, line
        assert "0.0.0.0" not in line, line


def test_make_label_stays_on_this_machine():
    recipe = (ROOT / "Makefile").read_text().split("\nlabel:")[1].split("\n\n")[0]
    assert "--host 127.0.0.1" in recipe


def test_targets_of_make_that_pages_name_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        told = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert told <= targets, page


def test_every_setting_has_a_meaning_and_every_meaning_a_setting(generate):
    words = json.loads((ROOT / "docs" / "reference" / "settings.json").read_text())
    parts = [generate.knobs(bundle, config) for bundle in generate.BUNDLES for config in generate.CONFIGS]
    known = {name for part in parts for name in part}
    assert known == set(words) - {"_parts"}


def test_generated_pages_hold_every_command_setting_metric_and_name(generate, tmp_path):
    pages = {path.name: path.read_text() for path in generate.write_pages(tmp_path)}
    assert all(f"\n## {name}\n" in pages["command_line.md"] for name in PARSERS)
    assert re.search(r"\| `epochs` \| `\d+` \| a whole number of at least 1 \|", pages["settings.md"])
    assert "| `vif` |" in pages["metrics.md"] and "| lower |" in pages["metrics.md"]
    assert ".. autoclass:: clinicalfmamba_nets.losses.FusionLoss" in pages["python_losses.md"]
    assert "clinicalfmamba_nets.engine.check_settings" in pages["python_engine.md"]


def test_environment_variables_are_all_told():
    told = set(re.findall(r"CLINICALFMAMBA_[A-Z_]+", (ROOT / "docs" / "reference" / "environment.md").read_text()))
    sources = [*ROOT.glob("clinicalfmamba_nets/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("*.py")]
    used = {name for path in sources for name in re.findall(r"[\"'](CLINICALFMAMBA_[A-Z_]+)", path.read_text())}
    assert used == told


def test_readme_is_short():
    assert 80 < len((ROOT / "README.md").read_text().splitlines()) < 140


def test_python_in_pages_is_python():
    for page in PAGES:
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            compile(code, str(page), "exec")


def test_notebook_is_stored_without_its_outputs():
    content = json.loads((ROOT / "docs" / "tutorials" / "first_training.ipynb").read_text())
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5 and not any(cell["outputs"] or cell["execution_count"] for cell in cells)


def test_pre_commit_uses_the_pinned_ruff():
    (pinned,) = re.findall(r"^ruff==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert f"rev: v{pinned}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_what_is_typed_from_page_to_page_meets_no_other_study_and_no_other_result():
    studies, results = {}, {}
    for page in sorted((ROOT / "docs" / "how-to").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for name, second in re.findall(r"write_phantom_study as w; (?:print\()?w\('(\w+)'(?:, '(\w+)')?\)", text):
            assert studies.setdefault(name, second) == second, f"{named(page)} writes another study into {name}"
        for command in COMMAND.findall(text):
            words = shlex.split(command, comments=True)
            if words[1] == "fuse" and words[2] in studies and "--series" not in words:
                made = results.setdefault(words[words.index("-o") + 1], words)
                assert made == words, f"{named(page)}: {command} is refused, {made} has written there"
    assert {"STUDY", "PET_STUDY"} <= studies.keys() and len(results) >= 3
