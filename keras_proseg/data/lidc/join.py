"""The parts of LIDC-IDRI's scans as one prepared file, one part in memory at a time."""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import MAX_READERS, DataConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.lidc.crops import loss_findings, reader_names
from keras_proseg.data.lidc.scans import Task, read_part
from keras_proseg.data.places import Place, Volume
from keras_proseg.data.preparing import describe, prepared_writer
from keras_proseg.errors import ProSegError, require
from keras_proseg.files import atomic_file


def join_parts(tasks: list[Task], path: Path, notes: dict[str, Any]) -> None:
    """Writes the prepared file of all parts, one part in memory at a time, and removes them.

    Raises:
        ProSegError: not one nodule has pixels, or a part was removed meanwhile.
    """
    names: dict[str, list] = defaultdict(list)
    findings: list[list[str]] = []
    nodules = vanished = 0
    for task in tasks:
        part = _part(task)
        findings += part["about"]["findings"]
        nodules += part["about"]["nodules"]
        vanished += part["about"]["vanished"]
        if part["about"]["nodules"]:
            _collect(task, part, names)
    without = sum(len(task.nodules) for task in tasks) - nodules
    first = f"; {': '.join(findings[0][:2])}" if findings else ""
    received = f"{without} nodules without{first}"
    require(nodules > 0, "lidc", "at least one nodule with pixels", received)
    notes |= {
        "nodules": nodules,
        "slices": len(names["case_ids"]),
        "patients": len(set(names["patients"])),
        "nodules_without_pixels": without + notes["nodules_without_pixels"],
        "findings": findings + loss_findings(vanished),
    }
    with atomic_file(path) as temporary, prepared_writer(temporary, notes["slices"]) as writer:
        for task in tasks:
            part = _part(task)
            if part["about"]["nodules"]:
                writer.append(part["images"], part["masks"], part["annotated"])
        writer.finish(describe(_described(names, tasks[0].config, notes)))
    shutil.rmtree(tasks[0].part.parent, ignore_errors=True)


def _part(task: Task) -> dict[str, Any]:
    part = read_part(task.part)
    if part is None:
        text = f"{task.part.parent} must keep the prepared scans; run the command again."
        raise ProSegError(f"{text} Received: one removed, perhaps by another preparation")
    return part


def _collect(task: Task, part: dict[str, Any], names: dict[str, list]) -> None:
    scan = task.nodules[0].scan
    shape = tuple(part["shapes"][0].tolist())
    volume = Volume(str(task.folder), "dicom", shape, f"{scan.patient}-scan{scan.scan_id}")
    names["case_ids"] += part["case_ids"].tolist()
    names["patients"] += [scan.patient] * len(part["case_ids"])
    names["spacing"] += part["spacing"].tolist()
    for index, size, offset in zip(part["indices"], part["sizes"], part["offsets"], strict=True):
        names["places"].append(
            Place(volume, int(index), tuple(size.tolist()), tuple(offset.tolist()))
        )


def _described(names: dict[str, list], config: DataConfig, notes: dict[str, Any]) -> Dataset:
    """The data set without its arrays."""
    places = np.empty(len(names["places"]), object)
    places[:] = names["places"]
    return Dataset(
        images=np.zeros((0, config.crop, config.crop, 1), np.int16),
        masks=np.zeros((0, MAX_READERS, config.crop, config.crop, 1), np.uint8),
        annotated=np.zeros((0, MAX_READERS), bool),
        raters=reader_names(),
        case_ids=np.array(names["case_ids"]),
        patients=np.array(names["patients"]),
        group_by="patient_ids",
        spacing=np.array(names["spacing"]),
        source="lidc",
        image_kind="ct",
        notes=notes,
        places=places,
        rater_order="area",
    )
