"""Runs a program of `clinicalfmamba export` with torch or ONNX Runtime alone; this file needs no other package of ours.

    python run_program.py PROGRAM --library LIBRARY --pair pair.npy -o fused.npy

`pair.npy` holds float32 (B, 2, *S) in [0, 1]. `clinicalfmamba export ... --library DIR` copies the library that goes
with the program; ONNX files and portable programs run without it. Research use only: not a medical device.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

FACTS, CHECKSUM = "clinicalfmamba.json", "clinicalfmamba.sha256"
ONNX_START = b"\x08"  # the field ir_version of a protocol buffer
ROUNDING = 0.01  # how far a value may lie outside [0, 1]
Run = Callable[[np.ndarray], np.ndarray]


def fail(where: object, expected: str, found: object, remedy: str) -> NoReturn:
    """End with one line."""
    lines = [line.strip() for line in str(found).splitlines() if line.strip()] or ["nothing"]
    sys.exit(f"error: {where}: expected {expected}, found {lines[0][:200]}; {remedy}")


def damaged_part(path: Path) -> str:
    """What in an archive does not fit its checksum, which torch does not look at; "" for nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() or ""
    except Exception as error:  # a changed byte of its table of contents may read as anything
        return f"its table of contents ({error or type(error).__name__})"


def facts_of(path: Path) -> dict:
    """What a TorchScript, torch.export or AOTInductor file tells of itself; an ONNX file tells when it is loaded."""
    if not path.is_file():
        fail(path, "a program of clinicalfmamba export", "no such file", "check the path")
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            first = file.read(1)
        if first != ONNX_START:
            fail(
                path, "a program of clinicalfmamba export", "another file, or a part of one", "export or copy it again"
            )
        return {"format": "onnx", "operators_version": 0}
    if damaged := damaged_part(path):
        fail(path, "a whole program", f"{damaged} damaged", "copy the file again, or export it again")
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"extra/{FACTS}"):
                return json.loads(archive.read(name))
            if name.endswith("_metadata.json") and FACTS in (found := json.loads(archive.read(name))):
                return json.loads(found[FACTS])
    fail(path, "a program of clinicalfmamba export", "another file", "export it again")


def load_onnx(path: Path, library: str | None) -> tuple[Run, dict]:
    """A session of ONNX Runtime, and what the file tells of itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if library:
        try:
            options.register_custom_ops_library(library)
        except Exception as error:
            fail(library, "the operators' library for ONNX Runtime", error, "name that of export --library")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        fail(path, "a program of clinicalfmamba export", error, "export or copy it again")
    told = session.get_modelmeta().custom_metadata_map
    facts = json.loads(told.get(FACTS, "{}"))
    if not facts:
        fail(path, "a program of clinicalfmamba export", "another ONNX file", "export it again")
    size, _, digest = told.get(CHECKSUM, "").partition(" ")  # of the graph and its weights
    if digest and hashlib.sha256(path.read_bytes()[: int(size)]).hexdigest() != digest:
        fail(path, "a whole program", "its graph or weights damaged", "copy the file again, or export it again")
    name = session.get_inputs()[0].name
    return lambda pair: session.run(None, {name: pair})[0], facts


def load_exported(path: Path) -> Run:
    """A program of torch.export, without the conditions that torch kept in files of version 0.2.0."""
    import torch

    program = torch.export.load(str(path))
    guarded = "check_guards" in inspect.signature(program.module).parameters  # since torch 2.9
    return program.module(check_guards=False) if guarded else program.module()


def load_torch(path: Path, facts: dict, library: str | None) -> Run:
    """A program of torch; its operators must be there before it is loaded."""
    import torch

    version = facts["operators_version"]
    wanted = f"the operators' library, version {version}"
    if library:
        try:
            torch.ops.load_library(str(Path(library).resolve()))
        except OSError as error:
            fail(library, wanted, error.__cause__ or error, "name that of export --library")
    elif version:
        fail(path, wanted, "none", "add --library LIBRARY")
    load = {
        "ts": lambda: torch.jit.load(str(path)),
        "pt2": lambda: load_exported(path),
        "aoti": lambda: torch._inductor.aoti_load_package(str(path)),
    }
    try:
        run = load[facts["format"]]()
    except Exception as error:
        if "clinicalfmamba::" in str(error):
            fail(library, wanted, "a library without them", "name that of export --library")
        fail(path, "a program of clinicalfmamba export", error, "export or copy it again")

    def fuse(pair: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            fused = run(torch.from_numpy(pair))
        return (fused[0] if isinstance(fused, list | tuple) else fused).numpy()

    return fuse


def read_pair(path: Path, facts: dict) -> np.ndarray:
    """The batch, if it is what the program takes: a program itself may turn any other into nonsense without a word."""
    try:
        pair = np.load(path)
    except Exception as error:
        fail(path, "numbers in a .npy file", error, "write it by numpy.save")
    wanted = facts["input"]  # such as "float32 (B, 2, H, W) in [0, 1]: MRI, CT"
    if not isinstance(pair, np.ndarray) or pair.dtype.kind != "f":
        fail(path, wanted, getattr(pair, "dtype", "several arrays"), "scale it to [0, 1] as float32")
    channels, axes = re.findall(r"\(B, (\d+), ([A-Z, ]+)\)", wanted)[0]
    dims, smallest = 2 + len(axes.split(",")), facts["smallest"]
    if pair.ndim != dims or pair.shape[1] != int(channels) or min(pair.shape[0], *pair.shape[2:]) < 1:
        fail(path, wanted, f"shape {pair.shape}", "give a batch of that shape")
    if min(pair.shape[2:]) < smallest:
        fail(path, f"sizes of {smallest} or more", f"shape {pair.shape}", "give larger images")
    low, high = float(pair.min()), float(pair.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN is neither
        fail(path, "values from 0 to 1", f"{low:g} to {high:g}", "scale each image to [0, 1]")
    return np.ascontiguousarray(pair, dtype=np.float32)


def main() -> None:
    """Fuse one batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--library", help="the operators' library that goes with the program")
    parser.add_argument("--pair", type=Path, required=True, help="float32 (B, 2, *S) in [0, 1], as .npy")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the result, as .npy")
    options = parser.parse_args()
    for given in (options.program, options.pair, *([Path(options.library)] if options.library else [])):
        if options.output.exists() and given.exists() and options.output.samefile(given):
            fail(options.output, "a name of its own for the result", "one of the inputs", "name another one by -o")
    facts = facts_of(options.program)
    if facts["format"] == "onnx":
        run, facts = load_onnx(options.program, options.library)
    else:
        run = load_torch(options.program, facts, options.library)
    pair = read_pair(options.pair, facts)
    try:
        fused = run(pair)
    except Exception as error:
        fail(options.program, f"to run on {options.pair} {pair.shape}", error, "export it again on this machine")
    partial = options.output.with_name(f".{options.output.name}.partial")
    try:
        with open(partial, "wb") as file:
            np.save(file, fused)
        os.replace(partial, options.output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        fail(options.output, "a file that can be written", error.strerror, "name another one by -o")


if __name__ == "__main__":
    main()
