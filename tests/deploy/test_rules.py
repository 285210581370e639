"""Selection rules of the MONAI Deploy application are refused in one line before anything runs; no SDK is needed."""

from __future__ import annotations

import importlib.util
import json

import pytest

from clinicalfmamba_nets.errors import FusionInputError


@pytest.fixture(scope="module")
def read_rules(request):
    path = request.config.rootpath / "deploy" / "monai_deploy" / "selection.py"
    spec = importlib.util.spec_from_file_location("selection", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_rules


def rules(**conditions):
    """Rules of which those for `image` are these."""
    other = {"name": "image2", "conditions": {"Modality": "CT"}}
    return {"selections": [{"name": "image", "conditions": conditions}, other]}


GOOD = [
    rules(Modality="^MR$", EchoTime=[0, 30]),
    rules(SeriesDescription="^(?!.*flair).*t2", EchoTime=[60, ">="]),
    rules(ImageType=["original", "!localizer"], EchoTime=11, SeriesNumber="^3"),
]
BAD = {
    "nested deeply": ("[" * 100_000, "nested too deeply"),
    "nested in an object": ('{"selections": ' + '{"a": ' * 50_000, "nested too deeply"),
    "cut": ("{", "JSONDecodeError"),
    "a list": ([], "a list without a list of selections"),
    "a number": (3, "a int without a list of selections"),
    "null": (None, "nothing without a list"),
    "selections as text": ({"selections": "image"}, "a dict without a list of selections"),
    "texts": ({"selections": ["image", "image2"]}, "selection 1 without a name"),
    "a name that is a list": (
        {"selections": [{"name": ["image"], "conditions": {"Modality": "MR"}}]},
        "without a name",
    ),
    "no conditions": ({"selections": [{"name": "image"}]}, "nothing as the conditions of image"),
    "a list of conditions": ({"selections": [{"name": "image", "conditions": ["MR"]}]}, "a list as the conditions"),
    "nothing": ({"selections": []}, "those for nothing"),
    "one image": ({"selections": [{"name": "image", "conditions": {"Modality": "MR"}}]}, "those for image"),
    "a list of modalities": (rules(Modality=["MR"]), "a list that is no range for Modality of image"),
    "a modality that is a number": (rules(Modality=1), "a number where text is compared"),
    "a condition that is a dict": (rules(EchoTime={"min": 1}), "a dict, which nothing is compared with for EchoTime"),
    "true": (rules(EchoTime=True), "a bool, which nothing is compared with"),
    "null as a condition": (rules(EchoTime=None), "nothing, which nothing is compared with"),
    "three numbers": (rules(EchoTime=[1, 2, 3]), "a list that is no range"),
    "no pattern": (rules(SeriesDescription="(t2"), "a pattern that is no regular expression"),
    "a wrong keyword": (rules(Modalty="MR"), "no element of DICOM for Modalty"),
    "control characters": ({"selections": [{"name": "image\x1b[31m", "conditions": 3}]}, r"image\\x1b"),
}


@pytest.mark.parametrize("content", GOOD)
def test_rules_of_the_sdk_are_read(read_rules, tmp_path, content):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(content))
    assert json.loads(read_rules(path)) == content


@pytest.mark.parametrize("what", BAD)
def test_other_rules_are_refused_in_one_line(read_rules, tmp_path, what):
    content, words = BAD[what]
    path = tmp_path / "rules.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(
        FusionInputError, match=f"rules.json: expected selection rules for image and image2, .*{words}"
    ) as told:
        read_rules(path)
    assert "\n" not in str(told.value)


def test_what_is_no_file_of_text(read_rules, tmp_path):
    for name, data in (("binary.json", b"\xff\xfe\0"), ("large.json", b" " * (2**20 + 1)), ("empty.json", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FusionInputError, match=f"{name}: expected selection rules"):
            read_rules(tmp_path / name)
    with pytest.raises(FusionInputError, match="No such file"):
        read_rules(tmp_path / "nowhere.json")


def test_the_rules_that_are_shipped_are_good(read_rules, checkout):
    files = sorted((checkout / "deploy" / "monai_deploy" / "rules").glob("*.json"))
    assert len(files) == 3 and all(read_rules(file) for file in files)
