"""From records to a `Dataset`."""

from collections.abc import Iterable

import numpy as np

from keras_proseg.config import DataConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import Findings
from keras_proseg.data.fit import Slice, fit_records, scale_of
from keras_proseg.data.orientation import check_orientation
from keras_proseg.data.records import Record, natural, plain_name


def build_dataset(
    records: Iterable[Record],
    config: DataConfig,
    findings: Findings,
    source: str,
    group_by: str = "case_ids",
    raters: tuple[str, ...] | None = None,
) -> Dataset | None:
    """Stacks records; every slice of a volume becomes a case of the volume's patient.

    Args:
        records: of any number of slices.
        config: how sizes, spacing and slices are settled.
        findings: collects what is wrong.
        source: of the dataset.
        group_by: what patients are.
        raters: in their order; by default by name.

    Returns:
        The dataset, or None with a fatal finding.
    """
    kept = list(records)
    annotated = [record for record in kept if record.masks]
    if not _agree(annotated, findings):
        return None
    check_orientation(annotated, findings)
    fitted = fit_records(annotated, config, findings)
    pairs = [(r, s) for r, own in zip(annotated, fitted, strict=False) for s in own]
    if findings.fatal:
        return None
    if not pairs:
        findings.add("no slice with an outline", "choose --slices all, or look at the masks")
        return None
    if raters is None:
        named = {name for record, _ in pairs for name in record.masks}
        raters = tuple(sorted(named, key=natural))
    splits = [record.split for record, _ in pairs]
    spacings = [part.spacing for _, part in pairs]
    return Dataset(
        images=np.stack([part.image for _, part in pairs]),
        masks=_stack_masks(pairs, raters),
        annotated=np.array([[name in record.masks for name in raters] for record, _ in pairs]),
        raters=raters,
        case_ids=np.array([_case_id(record, part) for record, part in pairs]),
        patients=np.array([plain_name(record.patient) for record, _ in pairs]),
        group_by=group_by,
        spacing=None if None in spacings else np.array(spacings),
        split=None if None in splits else np.array(splits),
        source=source,
        dropped=len(kept) - len(annotated),
        notes={"scale": scale_of(config)},
        places=_objects([part.place for _, part in pairs]),
    )


def _agree(records: list[Record], findings: Findings) -> bool:
    if not records:
        if not findings.fatal:  # else these are why
            findings.add("no case with an image and a mask", "give every case a whole mask")
        return False
    splits = {record.split is None for record in records}
    if len(splits) > 1:
        findings.add("some cases have a split and some none", "give every case a split, or none")
    channels = {record.image.shape[3] for record in records}
    if len(channels) > 1:
        odd = next(record for record in records if record.image.shape[3] == min(channels))
        text = f"cases have {' or '.join(map(str, sorted(channels)))} channels"
        findings.add(text, "give every case the same channels", odd.volume.path)
    depths = {record.image.dtype for record in records}
    if len(depths) > 1 and any(depth.kind == "u" for depth in depths):  # as pictures have
        text = f"images of {' and '.join(sorted(map(str, depths)))}: their scales differ"
        findings.note(text, "save all of them as numbers of one kind")
    return not findings.fatal


def _case_id(record: Record, part: Slice) -> str:
    if len(record.image) == 1:
        return record.case_id
    return f"{record.case_id}/z{part.place.index:03d}"


def _stack_masks(pairs: list[tuple[Record, Slice]], raters: tuple[str, ...]) -> np.ndarray:
    empty = np.zeros_like(next(iter(pairs[0][1].masks.values())))
    return np.stack([np.stack([part.masks.get(n, empty) for n in raters]) for _, part in pairs])


def _objects(items: list) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array
