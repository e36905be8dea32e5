"""From a folder as people have it to a data list that every workflow reads."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dim_monai.data.datalist import (
    DATALIST_NAME,
    LISTS,
    Datalist,
    Entry,
    Fact,
    load_saved_datalist,
    require_consistent,
    save_datalist,
)
from dim_monai.data.prepare.duplicates import link_duplicates, pixel_hash
from dim_monai.data.prepare.found import Found, FoundCase, Recoded
from dim_monai.data.prepare.layouts import Layout, detect, get_layout
from dim_monai.data.prepare.lists import Lists, Wish, choose
from dim_monai.data.prepare.publish import require_free, sha256_of, staged
from dim_monai.data.prepare.tree import Tree, list_tree
from dim_monai.data.unread import unread_among
from dim_monai.errors import ConfigError, DataError, counted

Progress = Callable[[int, int], None]
"""Is told how many images are done, and of how many."""

_MOST_FAULTS = 20


@dataclass(frozen=True)
class Prepared:
    """What `prepare` has written.

    Attributes:
        datalist: as every workflow will read it.
        layout: the name of the layout, given or detected.
        kind: "volume" or "photograph".
        notes: those of the data list.
        counts: number of cases by list and domain; every list is there.
    """

    datalist: Datalist
    layout: str
    kind: str
    notes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]


def prepare(
    source: Path,
    out: Path,
    *,
    layout: str | None = None,
    labeled_domain: str | None = None,
    labeled: int | None = None,
    seed: int = 0,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.0,
    paper_protocol: bool = False,
    copy: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Write ``out/datalist.json`` for the images and labels of ``source``, and return what it says.

    Every image is read once. Labels in a code of their layout are written anew under
    ``out/labels``; nothing else is copied unless asked for, and nothing is written into ``source``.
    The same arguments give the same files, byte for byte. An unlabelled case keeps no path to a
    label that it may have. See `choose` for who comes into which list.

    Args:
        source: the folder; may be read-only.
        out: the folder to write to; made where it is missing.
        layout: a name of `LAYOUTS`; None detects it.
        labeled_domain: the one domain whose labels train and select; None for all.
        labeled: how many labelled cases train; None for all that are left.
        seed: of every draw.
        validation_fraction: of the labelled patients, in [0, 1); 0.2 is the usual fifth.
        test_fraction: of the labelled patients of each domain, in [0, 1), where the layout has no
            test folder; 0, because most people keep their test cases elsewhere.
        paper_protocol: take the lists of the reference protocol; the results are marked.
        copy: copy images and labels to ``out`` as well, so that it stands alone.
        command: the command line, to be kept in the data list.
        progress: told after each image.

    Raises:
        ConfigError: an unknown layout, or wishes that contradict each other.
        DataError: the layout, a file, or ``out`` cannot be used, or the wishes cannot be met.
    """
    source, out = Path(os.path.abspath(source)), Path(os.path.abspath(out))
    wish = Wish(
        labeled_domain=labeled_domain,
        labeled=labeled,
        seed=seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        paper_protocol=paper_protocol,
    )
    tree = list_tree(source)
    known = detect(tree) if layout is None else get_layout(layout)
    found = known.find(tree)
    if not found.cases:
        raise DataError(f"no case of the layout {known.name}", file=source, expected=known.marker)
    cases = _with_parts(found, known) if paper_protocol else found.cases
    _refuse_shared(cases, copy)
    cases, doubles = link_duplicates(cases, _read(cases, progress))
    lists = choose(cases, wish, source=source)
    notes = (*lists.notes, *doubles, *found.notes, *_unread(tree, found))
    facts = _facts(known, found, wish, command)
    _write(lists, notes, facts, source, out, copy=copy)
    datalist = load_saved_datalist(out / DATALIST_NAME)
    counts = {
        name: dict(sorted(Counter(e["domain"] for e in getattr(datalist, name)).items()))
        for name in LISTS
    }
    return Prepared(datalist, known.name, found.kind.name, datalist.notes, counts)


def _with_parts(found: Found, layout: Layout) -> Sequence[FoundCase]:
    if layout.reference_split is None:
        raise ConfigError(
            "the reference protocol knows no such layout",
            got=layout.name,
            do="leave out --paper-protocol",
        )
    return layout.reference_split(found.cases)


def _refuse_shared(cases: Sequence[FoundCase], copy: bool) -> None:
    shared = [case for case in cases if case.shared]
    if shared and not copy:
        raise DataError(
            "folder holds several DICOM series",
            file=shared[0].image,
            expected="one and nothing else, because a data list names a series by its folder",
            do="give --copy, which puts each series into a folder of its own",
        )


def _unread(tree: Tree, found: Found) -> Iterator[str]:
    """Yield a note for each folder with files that look like images and are passed over."""
    files = (tree.root / path for path in tree.paths)
    used = [case.image for case in found.cases]
    used += [case.label for case in found.cases if isinstance(case.label, Path)]
    for folder, unread in unread_among(files, used, found.kind).items():
        place = folder.relative_to(tree.root).as_posix()
        yield (
            f"{counted(len(unread), 'file')} in {place} not used, because the format is not read "
            f"(the first is {unread[0].name}): convert to {found.kind.convert_to}"
        )


def _read(cases: Sequence[FoundCase], progress: Progress | None) -> list[str | None]:
    """Return the pixel hash of every case; refuse all that cannot be read in one error."""
    hashes: list[str | None] = []
    faults: list[str] = []
    for done, case in enumerate(cases, start=1):
        try:
            hashes.append(pixel_hash(case.pixels()))
        except (DataError, OSError) as error:
            faults.append(str(error))
        if progress is not None:
            progress(done, len(cases))
    if faults:
        more = len(faults) - _MOST_FAULTS
        rest = [f"and {more} more"] if more > 0 else []
        head = "nothing was written, these images cannot be read:"
        raise DataError("\n  ".join([head, *faults[:_MOST_FAULTS], *rest]))
    return hashes


def _facts(layout: Layout, found: Found, wish: Wish, command: str | None) -> dict[str, Fact]:
    facts: dict[str, Fact | None] = {
        "layout": layout.name,
        "kind": found.kind.name,
        "protocol": "reference" if wish.paper_protocol else "held out by patient",
        "labeled_domain": wish.labeled_domain,
        "labeled_cases": wish.labeled,
        "command": command,
    }
    if not wish.paper_protocol:
        facts |= {
            "seed": wish.seed,
            "validation_fraction": wish.validation_fraction,
            "test_fraction": wish.test_fraction,
        }
    return {key: value for key, value in facts.items() if value is not None}


def _write(
    lists: Lists,
    notes: tuple[str, ...],
    facts: dict[str, Fact],
    source: Path,
    out: Path,
    *,
    copy: bool,
) -> None:
    labelled = (*lists.labeled, *lists.validation, *lists.test)
    folders = ["images"] if copy else []
    if copy or any(isinstance(case.label, Recoded) for case in labelled):
        folders.append("labels")
    require_free(out, source, folders)
    with staged(out) as new:
        sha256: dict[str, str] = {}
        entries = {
            name: tuple(
                _entry(case, name, new, out, sha256, copy=copy) for case in getattr(lists, name)
            )
            for name in LISTS
        }
        datalist = Datalist(
            **entries,
            source=f"prepared from the layout {facts['layout']}",
            notes=notes,
            facts=facts,
            sha256=sha256,
        )
        require_consistent(datalist, source)
        save_datalist(new / DATALIST_NAME, datalist, relative_to=out)


def _entry(
    case: FoundCase, name: str, new: Path, out: Path, sha256: dict[str, str], *, copy: bool
) -> Entry:
    """Return the entry of a case in the list ``name``; write what of it is to be written.

    Paths are those in ``out``, where the files in ``new`` will be.
    """
    files = case.files or (case.image,)
    place = Path(case.domain, case.case)
    image = case.image
    if copy:
        image = _copied(case, new / "images" / place)
        image = out / image.relative_to(new)
    sha256[str(image)] = sha256_of(files)
    entry = {"image": str(image)}
    if name != "unlabeled" and case.label is not None:
        written = _label(case.label, new / "labels" / place, copy=copy)
        label = out / written.relative_to(new) if written.is_relative_to(new) else written
        sha256[str(label)] = sha256_of([written])
        entry["label"] = str(label)
    patient = case.patient or case.name
    return {**entry, "domain": case.domain, "case": case.case, "patient": patient}


def _copied(case: FoundCase, place: Path) -> Path:
    """Copy an image to ``place``, with its suffix, and return where it is."""
    if case.files:
        place.mkdir(parents=True)
        for file in case.files:
            shutil.copyfile(file, place / file.name)
        return place
    target = place.with_name(place.name + _suffix(case.image))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(case.image, target)
    return target


def _label(label: Path | Recoded, place: Path, *, copy: bool) -> Path:
    """Return the label file, written or copied to ``place`` where it has to be."""
    if isinstance(label, Path) and not copy:
        return label
    suffix = label.suffix if isinstance(label, Recoded) else _suffix(label)
    target = place.with_name(place.name + suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(label, Recoded):
        label.write(target)
    else:
        shutil.copyfile(label, target)
    return target


def _suffix(path: Path) -> str:
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
