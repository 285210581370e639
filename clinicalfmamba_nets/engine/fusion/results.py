"""The results of a run in its folder: their names, what they were made from, and how they come to be there.

One owner of names: no two cases share one, no input is ever written over. A result is made in a hidden folder beside
and swapped in when it is whole, so that a failure leaves the earlier one. A file is "done" only with a record that
matches the images, the weights and the settings.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.engine.fusion.case import Case, content_digest
from clinicalfmamba_nets.engine.run.record import RUN_FILE, Records
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import printable
from clinicalfmamba_nets.io.files import other_nifti, safe_name

REMEDY = "add --overwrite or change -o"
_SWAPPED = "old."


def output_names(name: str, extension: str) -> tuple[str, str]:
    """Return the names of a case's fused image and preview inside the output folder.

    Example:
        >>> output_names("7", ".nii.gz"), output_names("7", ".dcm")[0]
        (('7_fused.nii.gz', '7_preview.png'), '7_fused')
    """
    base = safe_name(name)
    return f"{base}_fused{'' if extension == '.dcm' else extension}", f"{base}_preview.png"


def set_name(name: str) -> str:
    """Return the name of the folder with the presentation state of a case.

    Example:
        >>> set_name("7")
        '7_presentation'
    """
    return f"{safe_name(name)}_presentation"


def color_name(name: str, extension: str) -> str:
    """Return the name of the colored result beside a case's grey one.

    Example:
        >>> color_name("7", ".nii.gz"), color_name("7", ".dcm")
        ('7_fused_color.nii.gz', '7_fused_color')
    """
    return f"{safe_name(name)}_fused_color{'' if extension == '.dcm' else extension}"


class Results:
    """The results of the cases of one run.

    Args:
        folder: where they lie.
        cases: all cases of the run.
        output_ext: ending of the results instead of the first images'.
        others: further inputs that nothing may be written over, such as the data list.

    Raises:
        FusionInputError: a report of this run would take the place of an input.
    """

    def __init__(self, folder: Path, cases: Sequence[Case], output_ext: str = "", others: Sequence[Path] = ()) -> None:
        self.folder, self.output_ext = folder, output_ext
        self._inputs = {os.path.realpath(path): Path(path) for path in others}
        for case in cases:
            for source in case.sources:
                place = source.path.rpartition("::")[0] or source.path
                self._inputs.setdefault(os.path.realpath(place), Path(place))
        self.refuse_inputs([RUN_FILE])
        self.records = Records(folder)

    def names(self, case: Case) -> tuple[str, str]:
        """Return the names of a case's fused image and preview."""
        return output_names(case.name, self.extension(case))

    def extension(self, case: Case) -> str:
        """Return how a case's fused image is named, ".dcm" for a folder with a DICOM series."""
        return self.output_ext or case.first.extension or ".png"

    def refuse_inputs(self, names: Sequence[str]) -> None:
        """Refuse to write over, or to put away, any input of the run.

        Raises:
            FusionInputError: naming the file.
        """
        for name in names:
            target = os.path.realpath(self.folder / name)
            inside = [place for place in self._inputs if Path(place).is_relative_to(target)]
            if inside or any(_same(target, place) for place in self._inputs):
                found = "one of the inputs"
                raise input_error(self.folder / name, "a place beside the inputs", found, "choose another folder by -o")

    def is_done(self, case: Case, made_by: Mapping[str, Any], overwrite: bool) -> bool:
        """Tell whether the folder holds this very result.

        Args:
            case: the case, its images in their order.
            made_by: what its record must hold beside the sums of the images: task, bundle, weights, settings.
            overwrite: whether it is made again all the same.

        Raises:
            FusionInputError: another result, or a file without a record, is in its place.
        """
        names = self.names(case)
        self.refuse_inputs(names)
        there = [name for name in names if os.path.lexists(self.folder / name)]
        self._check_kind(case, names)
        if overwrite or not there:
            return False
        record = self.records.find(names[0])
        target = self.folder / (names[0] if names[0] in there else there[0])
        if record is None:
            raise input_error(target, "a result that run.json tells about", "a file without a record", REMEDY)
        self._check_record(target, record, case, made_by)
        return len(there) == len(names)

    def _check_record(self, target: Path, record: Mapping[str, Any], case: Case, made_by: Mapping[str, Any]) -> None:
        sums = record.get("sha256", {})
        if any(sums.get(key) != value for key, value in case.identity().items()):
            made_from = [printable(str(record.get(key))) for key in ("image", "image2") if record.get(key)]
            found = f"that of other images ({' and '.join(made_from)} as they were at {record.get('time')})"
            raise input_error(target, "the result of these images", found, REMEDY)
        for key, value in made_by.items():
            if record.get(key) != value:
                expected, found = _differing(key, value, record.get(key))
                raise input_error(target, f"a result made with {expected}", found, REMEDY)
        if target.name == record.get("fused") and content_digest(target) != sums.get("fused"):
            raise input_error(target, "the file that run.json tells about", "one that was changed since", REMEDY)

    def _check_kind(self, case: Case, names: Sequence[str]) -> None:
        """Refuse to put a result in the place of something that this program does not write."""
        for name in names:
            target = self.folder / name
            series = name == names[0] and (self.output_ext or case.first.extension) == ".dcm"
            if series and os.path.lexists(target):
                from clinicalfmamba_nets.io.dicom.write import check_replaceable

                check_replaceable(target)
            elif target.is_dir():
                raise input_error(target, "a file's place", "a folder", "choose another folder by -o")
        twin = other_nifti(names[0])
        if twin and os.path.lexists(self.folder / twin) and self.records.find(twin) is None:
            expected = f"no file that programs built on ITK show in the place of {names[0]}"
            raise input_error(self.folder / twin, expected, "one without a record", "move it or change -o")

    @contextlib.contextmanager
    def made(self, case: Case, record: dict[str, Any]) -> Iterator[Path]:
        """Give a hidden folder for the results of a case; they are swapped in, and recorded, when all went well.

        Args:
            case: the case.
            record: what is told about it; the sums of the images and of the result are added.

        Yields:
            The hidden folder.
        """
        names = self.names(case)
        kept = [name for name in names if os.path.lexists(self.folder / name)]
        draft = self.folder / f".{secrets.token_hex(8)}.tmp"
        draft.mkdir()
        try:
            yield draft
            self.refuse_inputs([item.name for item in draft.iterdir()])
            record |= {"fused": names[0], "preview": names[1]}
            record["sha256"] = {
                **case.identity(),
                "fused": content_digest(draft / names[0]),
                **record.get("sha256", {}),
            }
            stale = self._stale(case, draft)
            self.records.add(record)
            swap_in(draft, self.folder)
            for path in stale:
                os.replace(path, draft / f"stale.{path.name}")
        except Exception as error:
            if kept:
                note = f"the earlier {' and '.join(kept)} stay as they were"
                error.__dict__.setdefault("__notes__", []).append(note)  # the short form came with Python 3.11
            raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _stale(self, case: Case, draft: Path) -> list[Path]:
        """Return what an earlier run made beside the image that is replaced, and this one does not make again."""
        colored = color_name(case.name, self.extension(case))
        beside = ("_weights.png", "_weights.nii.gz", "_registration.tfm")
        names = [colored, *(f"{safe_name(case.name)}{ending}" for ending in beside)]
        twin = other_nifti(self.names(case)[0])
        names += (twin, other_nifti(colored)) if twin and self.records.find(twin) else ()
        return [self.folder / name for name in names if not (draft / name).exists() and self._is_own(name)]

    def _is_own(self, name: str) -> bool:
        """Tell whether a file is there that is no input of this run and no other one's folder."""
        target = self.folder / name
        try:
            self.refuse_inputs([name])
            if target.is_dir():
                from clinicalfmamba_nets.io.dicom.write import check_replaceable

                check_replaceable(target)
        except FusionInputError:
            return False
        return os.path.lexists(target)


def swap_in(draft: Path, folder: Path) -> None:
    """Move everything of a draft into a folder; what was there goes first, and comes back when a move fails."""
    for item in sorted(draft.iterdir()):
        target, old = folder / item.name, draft / f"{_SWAPPED}{item.name}"
        if target.is_dir() and not target.is_symlink():
            os.replace(target, old)
        try:
            os.replace(item, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise


def clean_drafts(folder: Path) -> None:
    """Remove what a killed run left, hidden files and folders of this program; an earlier result is put back."""
    for draft in folder.glob(".*"):
        if not _is_draft(draft.name):
            continue
        if draft.is_dir() and not draft.is_symlink():
            for old in draft.glob(f"{_SWAPPED}*"):
                target = folder / old.name.removeprefix(_SWAPPED)
                if not os.path.lexists(target):
                    os.replace(old, target)
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def _is_draft(name: str) -> bool:
    stem, _, end = name.removeprefix(".").partition(".")
    return end in ("tmp", "old") and len(stem) == 16 and all(digit in "0123456789abcdef" for digit in stem)


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Clean a folder of what a killed run left, unless another run works in it at the moment."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks: nothing is cleaned
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            clean_drafts(folder)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _same(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _differing(key: str, asked: Any, made: Any) -> tuple[str, str]:
    """Return what was asked for and what was found; of several settings those that differ."""
    if not (isinstance(asked, Mapping) and isinstance(made, Mapping)):
        return f"{key} {_short(asked)}", f"{key} {_short(made)}"
    names = [name for name in dict.fromkeys([*asked, *made]) if asked.get(name) != made.get(name)]
    told = (", ".join(f"{name} {_short(held.get(name) or 'by default')}" for name in names) for held in (asked, made))
    expected, found = told
    return expected, found


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def check_names(cases: Sequence[Case]) -> None:
    """Refuse an empty list, and cases whose results would replace each other.

    Raises:
        FusionInputError: naming the case.
    """
    if not cases:
        raise input_error("the list of pairs", "at least one pair", "none", "name the images to fuse")
    seen: dict[str, str] = {}
    for case in cases:
        name = case.name
        if not name or name != os.path.basename(name) or name in (".", "..") or "\0" in name:
            raise input_error(f"case {printable(name)!r}", "a plain file name", "a path", "rename the case")
        key = safe_name(name).casefold()
        if key in seen:
            found = "it twice" if seen[key] == name else f"it beside {printable(seen[key])!r}"
            raise input_error(f"case {printable(name)!r}", "a name of its own for each pair", found, "name the cases")
        seen[key] = name
