"""What is wrong with a whole data set: groups, duplicates, empty masks, spacing."""

import hashlib
from collections import defaultdict

import numpy as np

from keras_proseg.data.dataset import Dataset, structure_areas, structure_names
from keras_proseg.data.findings import Findings
from keras_proseg.data.lazy import CHUNK
from keras_proseg.data.split import LEAST_GROUPS, unlearnt_raters
from keras_proseg.data.verify_names import SHOWN, check_names, some

VARYING_SPACING = 1.05  # the largest over the smallest above which it is worth a note


def check_dataset(dataset: Dataset, findings: Findings) -> None:
    """Adds what is wrong with `dataset` to `findings`."""
    check_names(dataset, findings)
    check_spacing(dataset, findings)
    _check_images(dataset, findings)
    _check_duplicates(dataset, findings)
    _check_masks(dataset, findings)
    _recall(dataset, findings)


def check_sides(dataset: Dataset, findings: Findings) -> None:
    """Notes what keeps `dataset` from being trained on; `evaluate` may take it all the same."""
    if dataset.split is None:
        groups = len(np.unique(dataset.patients))
        if groups < LEAST_GROUPS:
            text = f"cases of {groups} {dataset.group_by}, and no split"
            findings.note(text, f"a training needs {LEAST_GROUPS} or more to draw one")
        return
    for side in ("train", "val"):
        if side not in dataset.split:
            findings.note(f"no case in {side}", "a training needs cases in train and in val")
    for name in unlearnt_raters(dataset) if "train" in dataset.split else ():
        remedy = "a training cannot learn their manner: leave the rater out, or split otherwise"
        findings.note(f"rater {name} has no mask in train", remedy)


def file_of(dataset: Dataset, row: int) -> str:
    """The file that case `row` was read from, as far as is known."""
    if dataset.places is None:
        return f"{dataset.source}, case {dataset.case_ids[row]}"
    volume = dataset.places[row].volume
    inside = volume.kind in (".pickle", ".npz")
    return f"{volume.path}: {volume.case_id}" if inside else volume.path


def check_spacing(dataset: Dataset, findings: Findings) -> None:
    """Adds pixel spacings that are none, and notes that they vary."""
    if dataset.spacing is None:
        return
    spacing = np.asarray(dataset.spacing, float)
    good = np.isfinite(spacing).all(axis=1) & (spacing > 0).all(axis=1)
    for row in np.flatnonzero(~good)[:SHOWN]:
        text = f"pixel spacing {spacing[row].tolist()} mm"
        findings.add(text, "give a positive spacing, or none", file_of(dataset, row))
    low, high = spacing[good].min(axis=0, initial=np.inf), spacing[good].max(axis=0, initial=0)
    if (high > VARYING_SPACING * low).any():
        text = f"pixel spacing varies from {low.min():.3g} to {high.max():.3g} mm"
        findings.note(text, "choose --spacing to resample to one scale, if size matters")


def _check_images(dataset: Dataset, findings: Findings) -> None:
    blank = defaultdict(list)  # a volume may begin and end with many
    for start in range(0, len(dataset), CHUNK):  # a prepared file does not fit in memory
        images = np.asarray(dataset.images[start : start + CHUNK])
        images = images.reshape(len(images), -1)
        for row in np.flatnonzero(images.min(axis=1) == images.max(axis=1)).tolist():
            blank[file_of(dataset, start + row)].append(dataset.case_ids[start + row])
    for file, names in blank.items():
        remedy = "look at the file; nothing can be learnt from it"
        findings.note(f"all pixels are equal ({some(names)})", remedy, file)


def _check_duplicates(dataset: Dataset, findings: Findings) -> None:
    seen: dict[bytes, int] = {}
    for row in range(len(dataset)):
        image = np.ascontiguousarray(dataset.images[row])
        key = hashlib.blake2b(image.data, digest_size=16).digest()
        first = seen.setdefault(key, row)
        if first == row or image.min() == image.max():
            continue
        other = f"case {dataset.case_ids[first]} of patient {dataset.patients[first]}"
        text = f"case {dataset.case_ids[row]} has the image of {other}"
        if dataset.patients[first] == dataset.patients[row]:
            findings.note(text, "leave one of them out", file_of(dataset, row))
        else:
            remedy = "leave one of them out, or name one patient for both"
            findings.add(f"{text}, not its own", remedy, file_of(dataset, row))


def _check_masks(dataset: Dataset, findings: Findings) -> None:
    by_structure = structure_areas(dataset)
    areas = by_structure.sum(axis=2)
    present = dataset.annotated
    for index, name in enumerate(dataset.raters):
        own = present[:, index]
        empty = int((own & (areas[:, index] == 0)).sum())
        if not own.any():
            findings.note(f"rater {name} has no mask at all", "leave the rater out")
        elif empty == own.sum():
            findings.note(f"every mask of rater {name} is empty", "look at the files")
        else:
            _check_structures(dataset, index, by_structure[own, index], findings)
    empty_count = int((present & (areas == 0)).sum())
    if empty_count:
        text = f"{empty_count} of {int(present.sum())} masks are empty, which says: nothing there"
        findings.note(text, "leave out the masks of raters who did not look")
    full = (by_structure == np.prod(dataset.masks.shape[2:4])).any(axis=2)
    for row in np.flatnonzero((full & present).any(axis=1))[:SHOWN]:
        text = f"a mask covers the whole image ({dataset.case_ids[row]})"
        findings.note(text, "look whether it is inverted", file_of(dataset, row))
    _check_blank_slices(dataset, areas, findings)


def _check_structures(dataset: Dataset, rater: int, areas: np.ndarray, findings: Findings) -> None:
    """Of the masks of one rater, whose `areas` are (n, K)."""
    names = structure_names(dataset.notes.get("structures"), dataset.num_classes)
    for k, name in enumerate(names):
        if not areas[:, k].any():
            text = f"every mask of rater {dataset.raters[rater]} is empty in structure {name}"
            findings.note(text, "look at the files")


def _check_blank_slices(dataset: Dataset, areas: np.ndarray, findings: Findings) -> None:
    places = dataset.places
    blank = int((areas.sum(axis=1) == 0).sum())
    if (
        places is not None
        and 2 * blank > len(dataset)
        and len({p.volume for p in places}) < len(places)
    ):
        text = f"{blank} of {len(dataset)} slices have no outline at all"
        findings.note(text, "choose --slices drawn to leave them out")


def _recall(dataset: Dataset, findings: Findings) -> None:
    """Adds what was found when the data were prepared, but what was found again now."""
    again = {(finding.what, finding.remedy) for finding in findings.items}
    for file, what, remedy in dataset.notes.get("findings", []):
        if (what, remedy) not in again:
            findings.note(what, remedy, file)
