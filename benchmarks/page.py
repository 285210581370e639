"""How large the page of a large pair is, how fast it opens, and how it follows the hand, in a headless Chromium.

Run it with `python -m benchmarks.page`; it needs Chromium and Playwright (`make setup-browser`). Volumes are a head of
smooth tissue with noise: 240 x 240 x 155 without what is around it (as BraTS), 512 x 512 x 60 with noise in all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.engine.pictures.page import PageCase, write_pages
from clinicalfmamba_nets.engine.pictures.page_case import page_case
from clinicalfmamba_nets.transforms.restore import FACTS_KEY, SCALE_KEY

SIZES = {
    "240x240x155": ((240, 240, 155), (1.0, 1.0, 1.0), True),
    "512x512x60": ((512, 512, 60), (0.5, 0.5, 2.5), False),
}
SLIDE = """async ([axis, alone]) => {
    const view = CFM.view, times = [];
    view.set({ layout: "planes" });
    if (alone) view.panes.slice(1).forEach((pane) => pane.box.remove()), (view.panes = view.panes.slice(0, 1));
    for (let frame = 0; frame < 60; frame++) {
        const slice = 10 + (frame % (view.kase.shape[axis] - 20));
        view.goTo(view.cross.map((place, other) => (other === axis ? slice : place)));
        await new Promise(requestAnimationFrame);
        times.push(performance.now());
    }
    view.arrange();
    return times.slice(1).map((time, place) => time - times[place]);
}"""
WINDOW = """async () => {
    const start = performance.now();
    CFM.view.setWindow("a", [10, 500 + 100 * Math.random()]);
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - start;
}"""


def made_case(shape: tuple[int, ...], spacing: tuple[float, ...], stripped: bool) -> PageCase:
    """Make a pair of whole numbers and its fused image."""
    rng = np.random.default_rng(0)
    places = np.meshgrid(*(np.linspace(-1.2, 1.2, side, dtype=np.float32) for side in shape), indexing="ij")
    head = sum(place**2 for place in places) < 0.8
    waves = np.sin(9 * places[0]) * np.cos(7 * places[1]) * np.sin(5 * places[2])
    images = []
    for level, noise in ((500, 12), (40, 9)):
        image = np.rint(level * (1 + 0.4 * waves) * head + rng.normal(0, noise, shape)).astype(np.float32)
        images.append(image * head if stripped else image - (0 if level == 500 else 1000 * ~head))
    mri, ct = (np.clip(image, -1100, 3000) for image in images)
    fused = np.rint(0.6 * mri + 4 * ct.clip(0, 80))
    facts = [{"modality": "MR", "unit": ""}, {"modality": "CT", "unit": "HU"}]
    meta = {SCALE_KEY: torch.tensor([[0.0, 800.0], [0.0, 80.0]]), FACTS_KEY: json.dumps(facts)}
    scaled = torch.from_numpy(np.stack([mri / 800, ct / 80]).clip(0, 1))
    image = MetaTensor(scaled, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)), meta=meta)
    told = {"name": "x".join(map(str, shape)), "status": "done", "labels": ["MRI", "CT"]}
    return page_case({"image": image, "pred": torch.from_numpy(fused)[None]}, np.stack([mri, ct]), told)


def cpu_seconds() -> float:
    """CPU seconds so far of all programs that this one started: what a clock cannot tell on a busy machine."""
    parents: dict[int, tuple[int, float]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            parents[int(file.parent.name)] = (
                int(fields[1]),
                (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            )
    own, total = {os.getpid()}, 0.0
    while more := {number for number, (parent, _) in parents.items() if parent in own} - own:
        own |= more
    for number in own - {os.getpid()}:
        total += parents[number][1]
    return total


def tab_memory(session: Any) -> float:
    """MiB of all memory that the tab's program holds."""
    session.send("HeapProfiler.collectGarbage")
    return session.send("Runtime.getHeapUsage")["backingStorageSize"] / 2**20 + (
        session.send("Runtime.getHeapUsage")["usedSize"] / 2**20
    )


def measured(path: Path) -> dict[str, float]:
    """Open a page and measure."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    options = {"args": ["--no-sandbox"], "ignore_default_args": ["--disable-software-rasterizer"]}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, **options)
        page = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True).new_page()
        start, before = time.perf_counter(), cpu_seconds()
        page.goto(path.as_uri(), timeout=120_000)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
        page.evaluate("new Promise(requestAnimationFrame)")
        found = {"open s": time.perf_counter() - start, "open CPU s": cpu_seconds() - before}
        for name, arguments in (("axial alone", [2, True]), ("three planes", [2, False])):
            before = cpu_seconds()
            times = page.evaluate(SLIDE, arguments)
            found[f"{name} frames/s"] = 1000 / statistics.median(times)
            found[f"{name} CPU ms a frame"] = (cpu_seconds() - before) / len(times) * 1000
        before = cpu_seconds()
        found["window s"] = statistics.median(page.evaluate(WINDOW) for _ in range(5)) / 1000
        found["window CPU s"] = (cpu_seconds() - before) / 5
        found["memory of the tab's program MiB"] = tab_memory(page.context.new_cdp_session(page))
        browser.close()
    return found


def main() -> None:
    """Print a line for each number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", choices=list(SIZES), help="one of the sizes; all by default")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for name in parser.parse_args().size or SIZES:
            (path,) = write_pages(Path(folder, f"{name}.html"), [made_case(*SIZES[name])], {"notice": "benchmark"})
            found = {"file MiB": path.stat().st_size / 2**20} | measured(path)
            print(name, "  ".join(f"{words} {value:.3g}" for words, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
