"""The page in a real browser, without any network: values, sides, mixing, keys, the 3D view; no error on its console.

Needs Chromium (Debian: apt install chromium) and Playwright; `make test-view` installs the latter.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.engine.pictures.niivue import niivue_script
from clinicalfmamba_nets.engine.pictures.page import PageCase, write_pages
from clinicalfmamba_nets.engine.pictures.page_case import page_case
from clinicalfmamba_nets.transforms.restore import COVERED_KEY, FACTS_KEY, SCALE_KEY, WINDOW_KEY

pytestmark = pytest.mark.slow
SHAPE = (36, 44, 20)
# Stored from left to right and from back to front, 1 x 1.5 x 2 mm: x and y of the page run against the file.
AFFINE = np.array([[-1.0, 0, 0, 17], [0, -1.5, 0, 30], [0, 0, 2.0, -18], [0, 0, 0, 1]])
BLOCK = (slice(2, 10), slice(4, 12), slice(12, 18))  # as stored: the patient's right, front, top
POINT = (5, 8, 14)
FACTS = [
    {"modality": "MR", "low": 0, "high": 800, "unit": ""},
    {"modality": "CT", "low": 0, "high": 80, "unit": "HU"},
]


def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MR, CT and a fused image: a bright block in the MR, noise with one known voxel in the CT."""
    mri = np.full(SHAPE, 200.0, np.float32)
    mri[BLOCK] = 760
    ct = np.random.default_rng(4).integers(-50, 90, SHAPE).astype(np.float32)
    ct[POINT] = 57
    return mri, ct, (0.5 * mri + 100).astype(np.float32)


def volume_case(name="head", covered=None, share=None, **meta) -> PageCase:
    mri, ct, fused = pair()
    scale = torch.tensor([[0.0, 800.0], [0.0, 80.0]])
    meta |= {SCALE_KEY: scale, FACTS_KEY: json.dumps(FACTS), WINDOW_KEY: "MR\nCT", "color": 0}
    meta |= {} if covered is None else {COVERED_KEY: torch.from_numpy(covered)}
    scaled = torch.from_numpy(np.stack([mri / 800, (ct / 80).clip(0, 1)]).astype(np.float32))
    image = MetaTensor(scaled, affine=torch.tensor(AFFINE), meta=meta)
    sample = {"image": image, "pred": torch.from_numpy(fused)[None]}
    told = {"name": name, "status": "done", "labels": ["MRI", "CT"], "scores": {"ssim_a": 0.9, "coverage": 1.0}}
    return page_case(sample, np.stack([mri, ct]), told | {"warnings": ["two slices are missing"]}, share)


def picture_case(name="slice") -> PageCase:
    columns = np.tile(np.arange(50, dtype=np.float32) * 5, (30, 1))
    image = MetaTensor(torch.from_numpy(np.stack([columns, columns.max() - columns]) / 255), affine=torch.eye(4))
    image.meta |= {SCALE_KEY: torch.tensor([[0.0, 255.0]] * 2), "sources": [{"kind": "png"}] * 2}
    sample = {"image": image, "pred": torch.from_numpy(np.full((1, 30, 50), 99, np.float32))}
    told = {"name": name, "status": "done", "labels": ["MRI", "CT"]}
    return page_case(sample, np.stack([columns, columns.max() - columns]), told)


@pytest.fixture(scope="module")
def browser():
    """Chromium without a network."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: `make test-view` installs it")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        options = {"args": ["--no-sandbox"], "ignore_default_args": ["--disable-software-rasterizer"]}
        yield playwright.chromium.launch(executable_path=program, **options)


class Opened:
    """A page in the browser, and all that it said and asked for."""

    def __init__(self, browser, path) -> None:
        self.page = browser.new_context(viewport={"width": 1200, "height": 800}, offline=True).new_page()
        self.page.set_default_timeout(120_000)
        self.said, self.asked = [], []
        self.page.on("console", lambda line: self.said.append(f"{line.type}: {line.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.wait()

    def wait(self) -> None:
        """Wait until the case is drawn."""
        self.page.wait_for_selector("html[data-ready]", state="attached")
        self.frame()

    def frame(self) -> None:
        """Wait for two frames: what was asked for is drawn."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def js(self, program: str):
        """Run a program in the page."""
        return self.page.evaluate(program)

    def press(self, *keys: str) -> None:
        """Press keys one after another."""
        for key in keys:
            self.page.keyboard.press(key)
        self.frame()

    def text(self, name: str) -> str:
        """Text of an element."""
        return self.page.locator(f"#{name}").inner_text()

    def pixel(self, voxel, pane: int = 0) -> list[int]:
        """Color of a voxel of the page in the slice of a picture."""
        program = f"""(() => {{
            const pane = CFM.view.panes[{pane}];
            const [column, row] = pane.columnRow({list(voxel)});
            return [...pane.pixels.slice(4 * (row * pane.plane.width + column)).slice(0, 3)];
        }})()"""
        return self.js(program)

    def becomes(self, voxel, grey: int) -> bool:
        """Whether a voxel of the page gets a grey value, within a hundred frames: a field changes by an event."""
        for _ in range(50):
            if self.pixel(voxel)[0] == grey:
                return True
            self.frame()
        return False

    def shown(self, voxel, pane: int = 0) -> list[int]:
        """Color on the screen at the middle of a voxel."""
        program = f"""(() => {{
            const pane = CFM.view.panes[{pane}];
            const [x, y] = pane.pointOf({list(voxel)});
            return [...pane.canvas.getContext("2d").getImageData(Math.round(x), Math.round(y), 1, 1).data].slice(0, 3);
        }})()"""
        return self.js(program)

    def click(self, voxel, pane: int = 0) -> None:
        """Click on a voxel with the mouse."""
        found = self.js(f"""(() => {{
            const pane = CFM.view.panes[{pane}], box = pane.canvas.getBoundingClientRect();
            const [x, y] = pane.pointOf({list(voxel)});
            return [box.left + x / pane.ratio, box.top + y / pane.ratio];
        }})()""")
        self.page.mouse.click(*found)
        self.frame()


def page_voxel(stored) -> list[int]:
    """Voxel of the page of an index as stored."""
    return [SHAPE[0] - 1 - stored[0], SHAPE[1] - 1 - stored[1], stored[2]]


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    covered = np.ones(SHAPE, bool)
    covered[:, :, :3] = False
    share = np.linspace(0, 1, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    cases = [volume_case(), volume_case("part", covered, share), picture_case()]
    cases.append(PageCase({"name": "lost", "status": "failed", "error": "no such file"}))
    (path,) = write_pages(tmp_path_factory.mktemp("page") / "view.html", cases, {"notice": "Research use only."})
    opened = Opened(browser, path)
    yield opened
    assert opened.asked == [path.as_uri()], "the page asks for nothing"
    # The software renderer's own complaint, and that of reading pixels back, which only these tests do.
    faults = [line for line in opened.said if "GPU stall" not in line and "Multiple readback" not in line]
    assert not faults, faults


@pytest.fixture
def head(opened):
    """The first case as it is opened."""
    opened.js("(CFM.view.reset(), CFM.view.set({ layout: 'planes' }), CFM.openCase(0))")
    opened.wait()
    opened.js(f"CFM.view.goTo({page_voxel(POINT)})")
    opened.frame()
    return opened


def test_values_under_the_crosshair_are_those_of_the_files(head):
    head.js("CFM.view.goTo([0, 0, 14])")
    head.frame()
    head.click(page_voxel(POINT))
    assert head.text("value-b") == "57 HU" and head.text("value-a") == "760" and head.text("value-fused") == "480"
    place = head.page.locator("#values td.place").inner_text()
    assert place == "R 12.0 A 18.0 S 10.0 mm (voxel 5, 8, 14)"


def test_the_right_side_is_on_the_left_and_the_front_on_top(head):
    for pane, letters in enumerate(("RLAP", "RLSI", "APSI")):
        assert head.js(f"CFM.view.panes[{pane}].axis") == 2 - pane
        bright = head.js(f"""(() => {{
            const pane = CFM.view.panes[{pane}], {{ width, height }} = pane.plane;
            const out = CFM.compose(CFM.view, pane.plane, "a");
            const at = [...Array(width * height).keys()].filter((i) => out[4 * i] > 200);
            const sides = [at.map((i) => i % width), at.map((i) => Math.floor(i / width))];
            return [Math.max(...sides[0]) / width, Math.max(...sides[1]) / height];
        }})()""")
        assert max(bright) < 0.5, letters


def test_opacity_is_linear_on_the_screen(head):
    head.js("CFM.view.set({ smooth: false, crosshair: false, back: 'a', front: 'b', tint: false })")
    voxel = page_voxel(POINT)
    found = []
    for percent in range(0, 101, 10):
        head.page.locator("#alpha").fill(str(percent))
        head.frame()
        assert head.pixel(voxel) == head.shown(voxel)
        found.append(head.shown(voxel)[0])
    low, high = round(255 * 760 / 800), round(255 * 57 / 80)
    assert found[0] == low and found[-1] == high
    assert np.abs(np.array(found) - np.linspace(low, high, 11)).max() <= 0.51


def test_checkerboard_swipe_and_blink_show_one_image_or_the_other(head):
    head.js("CFM.view.set({ back: 'a', front: 'difference' })")
    flat = [voxel for x in range(2, 30) if (voxel := [x, 3, 14])]
    back, front = [64] * 3, [0, 0, 0]
    head.press("c")
    kinds = [head.pixel(voxel) for voxel in flat]
    assert back in kinds and front in kinds and all(kind in (back, front) for kind in kinds)
    head.press("s")
    head.js("CFM.view.set({ swipe: 0.5 })")
    head.frame()
    assert head.pixel([30, 3, 14]) == back and head.pixel([5, 3, 14]) == front  # left of the middle: below
    head.press(" ")
    seen = set()
    for shown in ("true", "false"):
        head.js(f"(clearInterval(CFM.view.timer), CFM.view.set({{ blink: {shown} }}))")
        head.frame()
        seen.add(tuple(head.pixel([5, 3, 14])))
    assert seen == {tuple(back), tuple(front)}


def test_a_window_is_set_by_numbers_and_names(head):
    head.js("CFM.view.set({ front: 'b', alpha: 1 })")
    boxes = head.page.locator("#window-b input")
    boxes.nth(1).fill("114")
    boxes.nth(1).press("Enter")
    assert head.becomes(page_voxel(POINT), 128)
    boxes.nth(1).fill("300")
    head.js("CFM.view.draw()")  # as a blinking page does
    assert boxes.nth(1).input_value() == "300"
    head.js("document.activeElement.blur()")
    head.page.locator("#window-b select").first.select_option("bone")
    assert head.becomes(page_voxel(POINT), round(255 * 857 / 2800))
    head.press("r", "b")
    head.js(f"CFM.view.goTo({page_voxel(POINT)})")
    head.frame()
    assert head.pixel(page_voxel(POINT))[0] == round(255 * 57 / 80)


def test_planes_are_linked_and_keys_move_through_the_slices(head):
    head.click(page_voxel((9, 8, 14)))
    assert head.js("CFM.view.cross") == page_voxel((9, 8, 14))
    head.press("ArrowUp", "ArrowUp", "ArrowDown")
    assert head.js("CFM.view.cross")[2] == 15 and "slice 16 of 20" in head.js("CFM.view.panes[0].foot.textContent")
    head.press("2")
    assert head.js("CFM.view.panes.map((pane) => pane.head.textContent)") == ["MRI", "CT", "fused", "fused - MRI"]
    head.press("1")


def test_where_b_ends_and_what_a_pixel_is_made_of(head):
    head.press("n")
    head.wait()
    head.js("CFM.view.goTo([20, 20, 1])")
    head.frame()
    assert head.text("value-b") == "not covered"
    head.press("w")
    stored = 30
    head.js(f"CFM.view.goTo({page_voxel((stored, 20, 10))})")
    head.frame()
    share = round(100 * stored / 35)
    assert head.text("value-share") == f"{share} % MRI, {100 - share} % CT"
    color = np.array([50, 130, 255]) + stored / 35 * (np.array([255, 160, 40]) - [50, 130, 255])
    assert np.abs(np.array(head.pixel(page_voxel((stored, 20, 10)))) - color).max() <= 1
    edge = head.js("""CFM.view.panes[1].pixels.reduce(
        (sum, one, at, all) => sum + (at % 4 === 0 && one === 255 && all[at + 1] === 176), 0)""")
    assert edge == SHAPE[0], "an orange line of one pixel"
    head.press("f")


def test_a_picture_stays_as_it_is_and_a_lost_case_says_why(head):
    head.js("CFM.openCase(2)")
    head.wait()
    head.press("a")
    assert [head.pixel([column, 7, 0])[0] for column in (0, 10, 49)] == [0, 50, 245]
    head.js("CFM.view.goTo([10, 7, 0])")
    head.frame()
    assert head.text("value-a") == "50" and head.text("value-b") == "195" and head.js("CFM.view.panes.length") == 1
    head.press("n")
    head.wait()
    assert head.text("error") == "failed: no such file" and head.js("CFM.view.panes.length") == 0
    assert head.text("stage") == "lost: failed: no such file" and not head.page.locator("#bar").is_visible()
    head.press("p", "f")
    head.wait()


def test_warnings_scores_and_the_notice_are_told(head):
    assert head.text("warnings") == "warning: two slices are missing" and head.text("notice") == "Research use only."
    assert "SSIM to MRI\t0.900" in head.text("trust") and head.page.locator("#index tr").count() == 4


def test_niivue_shows_the_same_place_and_values(head):
    if not niivue_script()[0]:
        pytest.skip(niivue_script()[1])
    head.js("CFM.view.set({ back: 'a', front: 'b', layout: 'volume' })")
    head.page.wait_for_selector("html[data-volume=ready]", state="attached")
    found = head.js("""(() => {
        const { viewer } = CFM.shown;
        const mm = Array.from(viewer.frac2mm(viewer.scene.crosshairPos)).slice(0, 3);
        const values = viewer.volumes.map((volume) => volume.getValue(...volume.mm2vox(mm)));
        viewer.drawScene();
        const gl = viewer.gl, pixels = new Uint8Array(4 * gl.drawingBufferWidth * gl.drawingBufferHeight);
        gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
        const { a, b } = CFM.view.layers;
        const found = [values[0] * a.step + a.low, values[1] * b.step + b.low];
        return { mm, values: found, lit: pixels.filter((one) => one > 40).length };
    })()""")
    assert np.allclose(found["mm"], (AFFINE @ [*POINT, 1])[:3], atol=0.05)
    assert found["values"] == [760, 57] and found["lit"] > 50000
    head.js("CFM.view.set({ layout: 'planes' })")
