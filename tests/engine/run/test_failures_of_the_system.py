"""The system's own errors in one line: full disk, long names, no permission, no memory."""

from __future__ import annotations

import errno

import pytest

from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.io import atomic_file


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/7_fused.png"), "out/7_fused.png: expected room"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), "expected a name that the file system takes"),
        (PermissionError(errno.EACCES, "Permission denied", "out/run.json"), "out/run.json: expected permission"),
        (FileExistsError(errno.EEXIST, "File exists", "list.json"), "list.json: expected a folder, or a name that is"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "list.json/x"), "list.json/x: expected a folder, or"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "run"), "run: expected a file, found Is a directory"),
        (MemoryError("Unable to allocate 9.2 GiB for an array"), "memory: expected enough of it, found Unable"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "memory: "),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
            "expected room on the disk",
        ),
        (
            ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 8, 1, 1])"),
            "batch normalization: expected more than one value of a channel in each step",
        ),
    ],
    ids=str,
)
def test_what_the_system_refuses_is_told_with_a_remedy(error, words):
    for wrapped in (error, None):
        if wrapped is None:
            wrapped = RuntimeError("applying transform <SaveFused>")
            wrapped.__cause__ = error
        told = str(find_input_error(wrapped))
        assert words in told and "; " in told and "\n" not in told


@pytest.mark.parametrize("error", [OSError("no number"), FileNotFoundError(errno.ENOENT, "No such file"), ValueError()])
def test_other_errors_stay_what_they_are(error):
    assert find_input_error(error) is None


def test_a_full_disk_names_the_file_that_was_meant(tmp_path):
    with pytest.raises(OSError) as caught, atomic_file(tmp_path / "7_fused.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(tmp_path / "7_fused.png") in str(find_input_error(caught.value))
    assert list(tmp_path.iterdir()) == []
