"""Runs a program of `clinicalfmamba export` with torch or ONNX Runtime alone; this file needs no other package of ours.

    python run_program.py PROGRAM --library LIBRARY --pair pair.npy -o fused.npy

`pair.npy` holds float32 (B, 2, *S) in [0, 1]. `clinicalfmamba export ... --library DIR` copies the library that goes
with the program; ONNX files and portable programs run without it. Research use only: not a medical device.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

FACTS = "clinicalfmamba.json"


def facts_of(path: Path) -> dict:
    """What a TorchScript, torch.export or AOTInductor file tells of itself; for other files only that it is ONNX."""
    if not zipfile.is_zipfile(path):
        return {"format": "onnx", "operators_version": 0}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"extra/{FACTS}"):
                return json.loads(archive.read(name))
            if name.endswith("_metadata.json") and FACTS in (found := json.loads(archive.read(name))):
                return json.loads(found[FACTS])
    return {}


def load_onnx(path: Path, library: str | None) -> Callable[[np.ndarray], np.ndarray]:
    """A session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if library:
        options.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pair: session.run(None, {name: pair})[0]


def load_torch(path: Path, facts: dict, library: str | None) -> Callable[[np.ndarray], np.ndarray]:
    """A program of torch; its operators must be there before it is loaded."""
    import torch

    if library:
        torch.ops.load_library(str(Path(library).resolve()))
    elif facts["operators_version"]:
        version = facts["operators_version"]
        sys.exit(
            f"error: {path}: expected the operators' library, version {version}, found none; add --library LIBRARY"
        )
    load = {
        "ts": lambda: torch.jit.load(str(path)),
        "pt2": lambda: torch.export.load(str(path)).module(),
        "aoti": lambda: torch._inductor.aoti_load_package(str(path)),
    }
    run = load[facts["format"]]()

    def fuse(pair: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            fused = run(torch.from_numpy(pair))
        return (fused[0] if isinstance(fused, list | tuple) else fused).numpy()

    return fuse


def main() -> None:
    """Fuse one batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--library", help="the operators' library that goes with the program")
    parser.add_argument("--pair", type=Path, required=True, help="float32 (B, 2, *S) in [0, 1], as .npy")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the result, as .npy")
    options = parser.parse_args()
    facts = facts_of(options.program)
    if not facts:
        sys.exit(f"error: {options.program}: expected a program of clinicalfmamba export, found another file")
    pair = np.ascontiguousarray(np.load(options.pair), dtype=np.float32)
    if facts["format"] == "onnx":
        fuse = load_onnx(options.program, options.library)
    else:
        fuse = load_torch(options.program, facts, options.library)
    np.save(options.output, fuse(pair))


if __name__ == "__main__":
    main()
