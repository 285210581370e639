"""Tables of evaluations in a document: only what lies between the marks changes."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.engine.evaluation.markdown import BEGIN, END, main, replace_results, short_table
from clinicalfmamba_nets.engine.evaluation.tables import markdown_table, summarize


@pytest.fixture
def tables(tmp_path):
    """Two evaluations with a table each."""
    for name in ("ct", "pet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.md").write_text(f"| network |\n|---|\n| {name} |\n")
    return tmp_path


def test_tables_take_the_place_of_old_ones_again_and_again(tables):
    document = tables / "README.md"
    document.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n")
    words = [str(document), f"CT-MRI, run 1={tables / 'ct'}", f"PET-MRI={tables / 'pet'}"]
    assert main(words) == 0
    first = document.read_text()
    assert main(words) == 0 and document.read_text() == first
    assert first.startswith("# Title\n\n" + BEGIN) and first.endswith(END + "\n\nrest\n") and "old" not in first
    assert (
        first.index("### CT-MRI, run 1") < first.index("| ct |") < first.index("### PET-MRI") < first.index("| pet |")
    )


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN} {END}"])
def test_document_without_the_marks_stays_as_it_is(tables, text, capsys):
    document = tables / "README.md"
    document.write_text(text)
    assert main([str(document), f"CT={tables / 'ct'}"]) == 1
    assert document.read_text() == text and "expected the marks" in capsys.readouterr().err


def test_missing_table_and_wrong_arguments(tables, capsys):
    assert main([str(tables / "README.md"), f"CT={tables / 'nowhere'}"]) == 1
    assert "run clinicalfmamba evaluate first" in capsys.readouterr().err
    assert main([str(tables / "README.md")]) == 2 and main([]) == 2


def test_short_tables_keep_the_means_that_tell_good_from_bad(tables):
    rows = [
        {
            "run": "run1",
            "case": case,
            "network": "average",
            "psnr": 15.0,
            "ssim_head_min": 0.4,
            "vif": vif,
            "bone_mean": 1.0,
        }
        for case, vif in (("1", 0.5), ("2", 0.7))
    ]
    (tables / "ct" / "table.md").write_text(markdown_table(summarize(rows)))
    document = tables / "README.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    assert main(["--short", str(document), f"CT-MRI={tables / 'ct'}"]) == 0
    table = [line for line in document.read_text().splitlines() if line.startswith("|")]
    assert table == ["| network | SSIM in head, worse source | VIF |", "|---|---|---|", "| average | 0.400 | 0.600 |"]


def test_the_readme_has_the_marks(checkout):
    text = (checkout / "README.md").read_text()
    assert "new" in replace_results(text, "new")


def test_a_short_table_holds_scores_and_no_ranks():
    scores = "| network | VIF | bone |\n|---|---|---|\n| ours | 0.5 ± 0.1 | 1 |"
    ranks = "| method | VIF |\n|---|---|\n| ours | 1.00 |"
    assert short_table(f"{scores}\n\nMean rank\n\n{ranks}") == "| network | VIF |\n|---|---|\n| ours | 0.5 |"


def test_the_best_of_each_column_is_bold_whoever_it_is():
    table = "| network | VIF | N_abf | outside both sources |\n|---|---|---|---|\n"
    table += "| ours | 0.5 ± 0.1 | 0.02 | 0.000 |\n| peer | 0.7 | 0.01 | 0.000 |\n| third | 0.7 | 0.03 | 0.000 |"
    rows = short_table(table).splitlines()[2:]
    assert rows == [
        "| ours | 0.5 | 0.02 | 0.000 |",
        "| peer | **0.7** | **0.01** | 0.000 |",
        "| third | **0.7** | 0.03 | 0.000 |",
    ]
