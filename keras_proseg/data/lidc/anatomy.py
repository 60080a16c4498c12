"""Parts of a simulated chest CT on a stack of slices: vessels, blobs, body walls."""

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

from keras_proseg.data.lidc.stack import Stack, sigmoid, smooth_noise

AIR, FAT, MUSCLE, BONE = -1000.0, -100.0, 40.0, 750.0
VESSEL_SIGMAS = (0.7, 1.2, 2.0)  # px; vessels are drawn in three widths


def paths(
    rng: Generator, starts: np.ndarray, headings: np.ndarray, radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Wandering, tapering courses of V vessels, one point per px.

    Args:
        rng: source of the wandering.
        starts: (V, 3) z, row, column where they begin, px.
        headings: (V, 3) first directions, any length.
        radii: (V,) px at the beginning.

    Returns:
        Points (P, 3) and radii (P,), px.
    """
    steps = 70
    turns = rng.standard_normal((len(starts), steps, 3)).cumsum(axis=1)
    heading = headings / np.linalg.norm(headings, axis=1, keepdims=True)
    heading = heading[:, None] + 0.1 * turns
    heading /= np.linalg.norm(heading, axis=2, keepdims=True)
    points = starts[:, None] + heading.cumsum(axis=1)
    widths = radii[:, None] * np.linspace(1.0, 0.4, steps)
    ends = rng.integers(steps // 3, steps, len(starts))
    drawn = np.arange(steps) < ends[:, None]
    return points[drawn], widths[drawn]


def tubes(stack: Stack, points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Presence 0 to 1 (Z, H, W) of vessels along `points` (P, 3) of radius `widths` (P,) px."""
    presence = np.zeros(stack.shape, np.float32)
    bounds = (0.0, 0.9, 1.6, np.inf)
    for sigma, low, high in zip(VESSEL_SIGMAS, bounds[:-1], bounds[1:], strict=True):
        chosen = (widths > low) & (widths <= high)
        dots = _splat(stack, points[chosen], np.minimum(widths[chosen] / sigma, 1.5))
        dots = gaussian_filter(dots, (0, sigma, sigma), truncate=3)
        presence = np.maximum(presence, np.tanh(1.4 * np.sqrt(2 * np.pi) * sigma * dots))
    return presence


def _splat(stack: Stack, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    near = 1 - np.abs(points[:, 0] - stack.z[:, None]) / stack.slab
    corner = np.floor(points[:, 1:]).astype(np.int64)
    inside = ((corner >= 0) & (corner < stack.size - 1)).all(axis=1) & (near > 0)
    levels, rows = np.nonzero(inside)
    weight, corner = near[levels, rows] * weights[rows], corner[rows]
    down, right = (points[rows, 1:] - corner).T
    flat = (levels * stack.size + corner[:, 0]) * stack.size + corner[:, 1]
    cells = np.concatenate([flat, flat + 1, flat + stack.size, flat + stack.size + 1])
    shares = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    amounts = (np.stack(shares) * weight).ravel()
    volume = np.bincount(cells, amounts, minlength=int(np.prod(stack.shape)))
    return volume.astype(np.float32).reshape(stack.shape)


def blob(rng: Generator, stack: Stack, centre: np.ndarray, radius: float) -> np.ndarray:
    """Presence 0 to 1 (Z, H, W) of a lumpy ellipsoid of mean `radius` px about `centre`."""
    z, row, column = stack.axes()
    squash = np.exp(rng.normal(0, 0.2, 3))
    angle, lobes = rng.uniform(0, np.pi), rng.integers(2, 5)
    down, right = row - centre[1], column - centre[2]
    along = (np.cos(angle) * down + np.sin(angle) * right) / squash[1]
    across = (np.cos(angle) * right - np.sin(angle) * down) / squash[2]
    distance = np.sqrt(along**2 + across**2 + ((z - centre[0]) / squash[0]) ** 2)
    lumps = 1 + rng.uniform(0, 0.25) * np.cos(lobes * np.arctan2(across, along))
    soft = rng.uniform(0.3, 1.2)
    return sigmoid((radius * lumps - distance) / soft)


def chest_wall(
    rng: Generator, stack: Stack, base: np.ndarray, angle: float, gap: float
) -> np.ndarray:
    """Puts chest wall on `base` (Z, H, W) HU: muscle, a rib, fat, skin, air.

    Args:
        rng: source of the shapes.
        stack: the voxels.
        base: lung, HU.
        angle: direction of the wall from the middle of the slice, radians.
        gap: distance from there to the wall, px.
    """
    mm = stack.spacing
    depth, along = _arc(rng, stack, angle, gap, rng.uniform(60, 120) / mm)
    depth = mm * depth
    muscle_end = rng.uniform(9, 24) + 2.5 * smooth_noise(rng, stack, 18)
    skin = rng.uniform(14, 60) + 12
    body = np.where(depth < muscle_end, MUSCLE, FAT) + 15 * smooth_noise(rng, stack, 3)
    for _ in range(rng.integers(1, 3)):
        middle = rng.uniform(-70, 70) + rng.uniform(-3, 3) * stack.z[:, None, None] * mm
        rib = np.hypot((depth - rng.uniform(5, 9)) / 4, (mm * along - middle) / rng.uniform(8, 30))
        body = np.where(rib < 1, np.where(rib < 0.65, 180.0, BONE * rng.uniform(0.5, 1)), body)
    body = np.where(np.abs(depth - skin) < 1.2, 10.0, body)
    body = np.where(depth > skin + 1.2, AIR, body)
    return base + (body - base) * sigmoid(depth / 0.5)


def organ(rng: Generator, stack: Stack, base: np.ndarray, angle: float, gap: float) -> np.ndarray:
    """Puts heart, diaphragm or mediastinum on `base`, bulging into the lung from `angle`."""
    radius = rng.uniform(22, 80) / stack.spacing
    depth = -_arc(rng, stack, angle, gap + 2 * radius, radius)[0]
    tissue = rng.uniform(20, 60) + 120 * (rng.uniform() < 0.3)
    fat = sigmoid(3 * (smooth_noise(rng, stack, 12) - rng.uniform(0.6, 2.5)))
    body = tissue + (FAT - tissue) * fat
    return base + (body - base) * sigmoid(depth / 0.9)


def _arc(
    rng: Generator, stack: Stack, angle: float, gap: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance outward from a circle (Z, H, W) and arc length along it, px; it leans with z."""
    z, row, column = stack.axes()
    lean = np.tan(rng.uniform(-0.5, 0.5)) * z
    middle = (stack.size - 1) / 2
    down = row - middle - np.sin(angle) * (gap - radius + lean)
    right = column - middle - np.cos(angle) * (gap - radius + lean)
    turned = np.arctan2(
        np.cos(angle) * down - np.sin(angle) * right, np.cos(angle) * right + np.sin(angle) * down
    )
    wobble = 1.2 * smooth_noise(rng, stack, 14, 4)
    return np.hypot(down, right) - radius + wobble, turned * radius
