"""Progress, curves, TensorBoard, report and checkpoints of a small training, without a bundle."""

from __future__ import annotations

import csv
import json
import logging
import math
import subprocess
import sys

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from PIL import Image
from torch import nn

from clinicalfmamba_nets.engine import (
    AverageHandler,
    CurvePlot,
    TensorBoardLog,
    TrackedLoss,
    TrainingCheckpoint,
    TrainingProgress,
    TrainingReport,
    WeightAverage,
    prepare_fusion_batch,
)
from clinicalfmamba_nets.engine.run.progress_bar import duration
from clinicalfmamba_nets.engine.training import checkpoints
from clinicalfmamba_nets.engine.training.checkpoints import save_atomic
from clinicalfmamba_nets.engine.training.curves import plot_history
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.losses import FusionLoss

CASES = [{"case": f"c{number}", "image": f"c{number}.png"} for number in range(5)]


def make_trainer(folder, epochs, resume=False, learning_rate=1e-2, decay=0.9, length=10, settings=None, drawn=False):
    """A trainer of two 1x1 weights on five pairs; `drawn` adds the handlers that draw and report."""
    torch.manual_seed(0)
    pairs = [{"image": torch.rand(2, 16, 16)} for _ in CASES]
    network = nn.Sequential(nn.Conv2d(2, 1, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, length, 1e-4)
    loss, average = TrackedLoss(FusionLoss()), WeightAverage(network, decay)
    drawing = [TensorBoardLog(folder), CurvePlot(folder), TrainingReport(folder, {"seed": 0}, CASES, CASES[:1])]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(pairs), batch_size=2, shuffle=True),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=prepare_fusion_batch,
        decollate=False,
        train_handlers=[
            AverageHandler(average),
            TrainingProgress(loss, optimizer),
            *(drawing if drawn else []),
        ],
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: scheduler.step())
    TrainingCheckpoint(
        folder, network, optimizer, scheduler, average=average, resume=resume, settings=settings or {"seed": 0}
    ).attach(trainer)
    return trainer


def final_state(folder):
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    return [*saved["network"].values(), *saved["average"]["module"].values()], saved


def test_two_and_two_epochs_equal_four(tmp_path):
    make_trainer(tmp_path / "whole", 4).run()
    make_trainer(tmp_path / "parts", 2).run()
    torch.rand(3), make_trainer(tmp_path / "parts", 4, resume=True).run()
    whole, parts = final_state(tmp_path / "whole")[0], final_state(tmp_path / "parts")[0]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    assert torch.equal(
        torch.load(tmp_path / "whole" / "model.pt")["0.weight"], torch.load(tmp_path / "parts" / "model.pt")["0.weight"]
    )


def test_a_kill_within_an_epoch_costs_that_epoch_only(tmp_path):
    make_trainer(tmp_path / "whole", 3).run()
    killed = make_trainer(tmp_path / "parts", 3)

    @killed.on(Events.ITERATION_COMPLETED(once=8))
    def stop(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.run()
    assert final_state(tmp_path / "parts")[1]["epoch"] == 2
    make_trainer(tmp_path / "parts", 3, resume=True).run()
    whole, parts = final_state(tmp_path / "whole")[0], final_state(tmp_path / "parts")[0]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_another_random_state_gives_other_weights(tmp_path):
    make_trainer(tmp_path / "whole", 4).run()
    make_trainer(tmp_path / "parts", 2).run()
    saved = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    saved["random_states"][0]["torch"] = torch.Generator().manual_seed(99).get_state()
    save_atomic(saved, tmp_path / "parts" / "checkpoint.pt")
    make_trainer(tmp_path / "parts", 4, resume=True).run()
    whole, parts = final_state(tmp_path / "whole")[0], final_state(tmp_path / "parts")[0]
    assert not torch.equal(whole[0], parts[0])


def test_an_earlier_training_is_set_aside(tmp_path, caplog):
    make_trainer(tmp_path, 1).run()
    first = torch.load(tmp_path / "checkpoint.pt")
    with caplog.at_level(logging.WARNING, "clinicalfmamba"):
        make_trainer(tmp_path, 2).run()
    assert torch.load(tmp_path / "previous_checkpoint.pt")["epoch"] == first["epoch"] == 1
    assert (tmp_path / "previous_model.pt").is_file()
    assert "kept the earlier" in caplog.text


def test_weights_that_are_gone_are_written_when_a_training_is_resumed(tmp_path, caplog):
    for epochs in (2, 3):
        make_trainer(tmp_path, 2).run()
        (tmp_path / "model.pt").unlink()
        trainer = make_trainer(tmp_path, epochs, resume=True)
        checkpoint = trainer._event_handlers[Events.STARTED][-1][0].__self__
        checkpoint.evaluator = Engine(lambda engine, batch: None)
        checkpoint.evaluator.state.best_metric, checkpoint.evaluator.state.best_metric_epoch = 2.0, 1
        with caplog.at_level(logging.WARNING, "clinicalfmamba"):
            trainer.run()
        assert "model.pt was gone" in caplog.text and checkpoint.evaluator.state.best_metric_epoch == -1
        weights, saved = torch.load(tmp_path / "model.pt"), final_state(tmp_path)[1]
        assert all(torch.equal(weights[name], value) for name, value in saved["average"]["module"].items())


@pytest.mark.parametrize("event", [IterationEvents.MODEL_COMPLETED, Events.ITERATION_COMPLETED])
def test_weights_that_are_not_finite_are_neither_kept_nor_validated(tmp_path, event):
    make_trainer(tmp_path, 1).run()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")}
    trainer = make_trainer(tmp_path, 3, resume=True)

    rates = []

    @trainer.on(event)
    def diverge(engine):
        if engine.state.iteration == 6:
            engine.network[0].bias.data.fill_(torch.nan)
            rates.append(engine.optimizer.param_groups[0]["lr"])

    with pytest.raises(FusionInputError, match="weights after epoch 2: expected finite numbers, found NaN"):
        trainer.run()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")} == before
    if event is IterationEvents.MODEL_COMPLETED:  # the epoch does not end, so that nothing validates them
        assert rates == [trainer.optimizer.param_groups[0]["lr"]]


def test_a_damaged_checkpoint_is_not_resumed(tmp_path):
    make_trainer(tmp_path, 1).run()
    content = bytearray((tmp_path / "checkpoint.pt").read_bytes())
    place = content.index(final_state(tmp_path)[1]["network"]["0.weight"].numpy().tobytes())
    content[place + 2] ^= 64
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(FusionInputError, match="expected a checkpoint .* damaged; resume with"):
        make_trainer(tmp_path, 2, resume=True).run()


def test_nothing_to_resume_starts_anew(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "clinicalfmamba"):
        make_trainer(tmp_path, 1, resume=True).run()
    assert "nothing to resume" in caplog.text
    assert final_state(tmp_path)[1]["epoch"] == 1


def test_another_setting_is_told_and_another_rate_and_length_are_taken(tmp_path, caplog):
    make_trainer(tmp_path, 2, settings={"seed": 0, "learning_rate": 1e-2}).run()
    with caplog.at_level(logging.WARNING, "clinicalfmamba"):
        trainer = make_trainer(
            tmp_path, 3, True, learning_rate=1e-3, length=20, settings={"seed": 0, "learning_rate": 1e-3}
        )
        trainer.run()
    assert "resumed with another learning_rate: 0.001, was 0.01" in caplog.text
    scheduler = final_state(tmp_path)[1]["scheduler"]
    assert scheduler["T_max"] == 20
    rates = [row["lr"] for row in trainer.state.history]
    assert rates[2] < 1.1e-3 < rates[1]


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    make_trainer(tmp_path, 1).run()
    trainer = make_trainer(tmp_path, 2, resume=True)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    saved["network"]["0.weight"] = torch.zeros(1, 3, 1, 1)
    save_atomic(saved, tmp_path / "checkpoint.pt")
    with pytest.raises(FusionInputError, match=r"checkpoint.pt: expected a checkpoint of this network.*size mismatch"):
        trainer.run()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    make_trainer(tmp_path, 1).run()
    content = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(FusionInputError, match="or start anew with --resume false"):
        make_trainer(tmp_path, 2, resume=True).run()


def test_a_failed_save_leaves_the_earlier_file(tmp_path):
    save_atomic({"epoch": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_atomic({"epoch": (value for value in "x")}, tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt") == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_history_lines_and_files(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "clinicalfmamba.training"):
        trainer = make_trainer(tmp_path, 3, drawn=True)
        trainer.run()
    lines = [record.message for record in caplog.records]
    assert len(lines) == 3
    assert lines[2].startswith("epoch 3/3  loss ")
    assert all(word in lines[0] for word in ("pixel", "gradient", "ssim", "lr 1.00e-02", "s/pair", "left"))
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[1]["loss"]) == pytest.approx(trainer.state.history[1]["loss"])
    assert list((tmp_path / "tensorboard").glob("events*"))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 500


def test_the_loss_told_is_the_mean_over_pairs(tmp_path):
    trainer = make_trainer(tmp_path, 1, learning_rate=0.0)
    trainer.run()
    torch.manual_seed(0)
    images = torch.stack([torch.rand(2, 16, 16) for _ in CASES])
    with torch.no_grad():
        expected = [FusionLoss()(trainer.network(image[None]), image[None]).item() for image in images]
    assert trainer.state.history[0]["loss"] == pytest.approx(sum(expected) / 5, rel=1e-5)


def test_tensorboard_holds_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(tmp_path, 2, drawn=True)
    trainer.run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("training/loss")]
    assert told == [(row["epoch"], pytest.approx(row["loss"], rel=1e-6)) for row in trainer.state.history]


def test_report_names_what_was_done(tmp_path):
    make_trainer(tmp_path, 2, drawn=True).run()
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["epochs"] == {"done": 2, "planned": 2}
    assert report["cases"]["training"] == ["c0", "c1", "c2", "c3", "c4"]
    assert report["parameters"] == 3
    assert report["last"]["epoch"] == 2
    assert report["seconds"] >= 0


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    trainer = make_trainer(tmp_path, 2)
    with torch.no_grad():
        trainer.network[0].weight.fill_(math.nan)
    with pytest.raises(FusionInputError, match="training loss at epoch 1, step 1: expected a finite number, found nan"):
        trainer.run()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_live_line_is_for_terminals_only(tmp_path, capsys):
    trainer = make_trainer(tmp_path, 1)
    trainer.run()
    assert capsys.readouterr().err == ""


def test_live_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("clinicalfmamba_nets.engine.training.progress.LIVE_INTERVAL", 0.0)
    make_trainer(tmp_path, 1).run()
    shown = capsys.readouterr().err
    assert "epoch 1: step 2/3  loss " in shown
    assert shown.endswith("\r\033[K")


def test_a_pause_does_not_spoil_the_time_that_is_left():
    history = [{"epoch": n, "loss": 1.0, "lr": 1e-3, "seconds": 10.0, "seconds_per_pair": 1.0} for n in (1, 2, 3)]
    history[1]["seconds"] = 9999.0
    assert TrainingProgress.line(history, 9).endswith("left 1 min 0 s")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (90061, "25 h 1 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_curves_of_an_empty_history(tmp_path):
    plot_history([], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    code = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdout.readline()
        with pytest.raises(FusionInputError, match="a folder in which no other run works, found one that does"):
            make_trainer(tmp_path, 1).run()
        other.communicate("\n")
    failed = make_trainer(tmp_path, 1)
    failed.add_event_handler(Events.ITERATION_COMPLETED, lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.run()
    assert tmp_path.resolve() not in checkpoints._held
    unlocked = code.replace("LOCK_EX", "LOCK_EX | fcntl.LOCK_NB")
    subprocess.run([sys.executable, "-c", unlocked, tmp_path], input="\n", text=True, check=True, capture_output=True)
    make_trainer(tmp_path, 1).run()  # what failed here holds nothing, and neither does what ended
    assert tmp_path.resolve() not in checkpoints._held
