"""Every malformed input and every real DICOM item through the command line, in one table (shown by -rP)."""

from __future__ import annotations

import json
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import is_dicom, read_image
from clinicalfmamba_nets.io.dicom.files import split_selector

pytestmark = pytest.mark.slow
LONGEST = 60  # seconds for one item
GREATEST = 4 * 2**20  # KiB of memory


@pytest.fixture(scope="module")
def tiny_bundles(toy_bundles, tmp_path_factory):
    """`toy_bundles` with a small 2D network too."""
    folder = shutil.copytree(toy_bundles, tmp_path_factory.mktemp("tiny") / "bundles")
    config = folder / "fusion_2d" / "configs" / "inference.json"
    sizes = {"features": 4, "dim": 16, "depth": 1, "decoder_depth": 1, "d_state": 4}
    content = json.loads(config.read_text()) | sizes
    config.write_text(json.dumps(content))
    for task in content["graphs"]:
        parser = ConfigParser()
        parser.read_config(str(config))
        parser.update({"bundle_root": str(folder / "fusion_2d"), "task": task})
        torch.save(parser.get_parsed_content("network_def").state_dict(), parser.get_parsed_content("ckpt_path"))
    return folder


def malformed(folder, scratch):
    """Name, arguments and what is wanted ("done", "refused", "" for both) of every entry of the index."""
    items = []
    for entry in json.loads((folder / "index.json").read_text()):
        path, want = folder / entry["path"], entry["want"]
        wanted = "refused" if want.startswith("reject:") else "done" if want.startswith("handle:") else ""
        items += [(f"bad/{entry['path']}", pair, wanted) for pair in _arguments(path, entry["kind"], scratch)]
    return items


def _arguments(path: Path, kind: str, scratch: Path):
    if kind == "datalist":
        return [("--datalist", path, "--task", "ct_mri")]
    if kind == "nifti pair":
        files = sorted(path.iterdir())
        return [(files[-1], files[0])]  # T2, FLAIR
    if kind == "nifti":
        return [(path, path.parent / "good_pair" / "flair.nii.gz"), (path.parent / "good_pair" / "t2.nii.gz", path)]
    if kind == "png" and "odd_size" not in path.name:
        return [(path, path.parent / "good_ct.png"), (path.parent / "good_mri.png", path)]
    if kind == "file names":
        with tarfile.open(path) as archive:
            archive.extraction_filter = lambda member, path: member  # the argument `filter` is new in 3.11.4
            archive.extractall(scratch / "names")
        return [(file, file) for file in (scratch / "names").rglob("*") if file.is_file()]
    return [(path, path)]


def real(folder):
    """Name, arguments and what is wanted of every real DICOM item: done where it is one grey volume."""
    places = sorted(item for item in folder.iterdir() if item.is_dir())
    places += sorted(item for item in folder.glob("*singles/*") if is_dicom(item)) + sorted(folder.glob("wg04/*.dcm"))
    places += [Path(f"{folder / 'mr_pd_t2_dual_echo'}::EchoTime=11"), Path(f"{folder / 'dicomdir_mixed_mr'}::#1")]
    for place in places:
        try:
            array, meta = read_image(place)
            wanted = "refused" if meta["color"] or array.min() == array.max() else "done"
        except FusionInputError:
            wanted = "refused"
        alone = split_selector(place)[1] or not place.is_dir() or wanted == "done"
        yield f"dicom/{place.name}", (place, place) if alone else (place,), wanted if alone else ""


def judge(run, arguments, out):
    """Run the command line; return the verdict, the line that was told, and what is wrong with the way it ended."""
    start = time.monotonic()
    done = run("fuse", *arguments, "-o", out)
    seconds, results = time.monotonic() - start, [item for item in out.glob("*") if item.name != "run.json"]
    faults = [f"{seconds:.0f} s"] if seconds > LONGEST else []
    faults += ["traceback"] if "Traceback" in done.err else []
    if done.code == 0:
        fused = [read_image(item)[0] for item in results if "_fused" in item.name]
        faults += [] if fused and all(np.isfinite(array).all() for array in fused) else ["no finite image"]
        return "done", done.out.strip().splitlines()[0], faults
    faults += [f"exit code {done.code}"] if done.code != 1 else []
    faults += [] if done.cause.startswith("error: ") and "expected" in done.cause else [f"no cause: {done.cause}"]
    faults += [f"left {item.name}" for item in results]
    return "refused", done.cause, faults


def test_both_collections(run_cli, tiny_bundles, shared_data, tmp_path, monkeypatch, peak_memory):
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(tiny_bundles))
    table, wrong = [], []
    items = [*malformed(shared_data / "bad", tmp_path), *real(shared_data / "dicom")]
    for number, (name, arguments, wanted) in enumerate(items):
        verdict, told, faults = judge(run_cli, arguments, tmp_path / f"out{number}")
        faults += [f"{verdict} instead of {wanted}"] if wanted not in ("", verdict) else []
        table.append(f"{'BAD' if faults else 'ok '} {name:<46} {verdict:<8} {told.replace(str(shared_data), '')[:140]}")
        wrong += [f"{name}: {', '.join(faults)}"] if faults else []
        shutil.rmtree(tmp_path / f"out{number}", ignore_errors=True)
    print("\n".join(table))
    assert not wrong, "\n".join(wrong)
    assert peak_memory() < GREATEST
