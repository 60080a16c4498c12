"""Simulated CT around real outlines: the labels are readers' own, every pixel is invented."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

from keras_proseg.config import PhantomConfig
from keras_proseg.data.lidc import anatomy
from keras_proseg.data.lidc.character import (
    CALCIFIED_CENTRE,
    CALCIFIED_THROUGHOUT,
    NOT_CALCIFIED,
    SOFT_TISSUE,
    Character,
)
from keras_proseg.data.lidc.stack import Stack, scanner_noise, sigmoid, smooth_noise

PHANTOM_VERSION = 1
LUNG = -860.0  # HU
STRUCTURE_HU = {2: 5.0, 3: -90.0, 4: -850.0}  # fluid, fat, air inside the nodule


def render(
    key: str,
    masks: np.ndarray,
    z: np.ndarray,
    spacing: float,
    thickness: float,
    ratings: Sequence[dict[str, int]],
    config: PhantomConfig,
) -> np.ndarray:
    """Simulated CT of one nodule, the same for the same arguments.

    Args:
        key: name of the nodule; seeds everything that is drawn.
        masks: (Z, R, H, H) bool, what R readers outlined on Z slices.
        z: (Z,) position of the slices, mm.
        spacing: pixel spacing, mm.
        thickness: slice thickness, mm.
        ratings: of each reader, by pylidc's names.
        config: how hard to read it shall be.

    Returns:
        (Z, H, H) int16, Hounsfield units.
    """
    digest = hashlib.sha256(f"{PHANTOM_VERSION}/{key}".encode()).digest()
    streams = np.random.SeedSequence(list(digest[:16])).spawn(5)
    lung, walls, nodule, scanner, mimics = (np.random.default_rng(stream) for stream in streams)
    stack = Stack(masks.shape[-1], (z - z.mean()) / spacing, max(thickness / spacing, 1), spacing)
    union = np.asarray(masks.any(axis=1))
    image = _lung(lung, stack)
    image = _vessels(mimics, stack, union, image, config)
    image = _blobs(mimics, stack, union, image, config)
    image = _walls(walls, stack, union, image, config)
    image = _nodule(nodule, stack, masks, image, Character.of(ratings), config)
    return _scan(scanner, stack, image, config)


def _lung(rng: Generator, stack: Stack) -> np.ndarray:
    base = LUNG + rng.normal(0, 25) + rng.uniform(-40, 40) * np.linspace(-1, 1, stack.size)[:, None]
    grain = rng.uniform(8, 28) * smooth_noise(rng, stack, 1.3, 1.2)
    return base.astype(np.float32) + grain + rng.uniform(8, 30) * smooth_noise(rng, stack, 7)


def _vessels(
    rng: Generator, stack: Stack, union: np.ndarray, image: np.ndarray, config: PhantomConfig
) -> np.ndarray:
    """Vessels that fan out from a hilum, and some that end in the nodule."""
    count, half = rng.poisson(config.vessels), stack.size / 2
    reach = np.array([np.ptp(stack.z) / 2 + 0.25 * stack.size, 1.4 * half, 1.4 * half])
    starts = rng.uniform(-reach, reach, (count, 3)) + np.array([0, half, half])
    hilum = np.array([0, *rng.normal(half, 2 * half, 2)])
    headings = (starts - hilum) / stack.size + rng.normal(0, 0.4, (count, 3))
    radii = rng.lognormal(np.log(0.75 / stack.spacing), 0.45, count)
    points, widths = anatomy.paths(rng, starts, headings, radii)
    edge = _voxels(union)
    picks = edge[rng.integers(0, len(edge), rng.poisson(config.attached))]
    starts = np.column_stack([stack.z[picks[:, 0]], picks[:, 1:]])
    radii = rng.uniform(0.5, 1.5, len(starts)) / stack.spacing
    own = anatomy.paths(rng, starts, rng.normal(0, 1, starts.shape) * [0.4, 1, 1], radii)
    presence = anatomy.tubes(
        stack, np.concatenate([points, own[0]]), np.concatenate([widths, own[1]])
    )
    return image + presence * (SOFT_TISSUE - image) * np.float32(rng.uniform(0.75, 1.0))


def _blobs(
    rng: Generator, stack: Stack, union: np.ndarray, image: np.ndarray, config: PhantomConfig
) -> np.ndarray:
    """Nodule-like blobs that no reader marked, a third of them touching the nodule."""
    edge = _voxels(union)[:, 1:]
    low, high = edge.min(axis=0), edge.max(axis=0)
    size = float((high - low).max()) / 2
    presence = np.zeros(stack.shape, np.float32)
    for _ in range(rng.poisson(config.blobs)):
        radius, turn = rng.uniform(1.3, 4.5) / stack.spacing, rng.uniform(0, 2 * np.pi)
        apart = size + radius + rng.uniform(4, stack.size / 2)
        reach = size + radius * 0.7 if rng.uniform() < 0.33 else apart
        where = (low + high) / 2 + reach * np.array([np.sin(turn), np.cos(turn)])
        centre = np.array([rng.normal(0, 0.3 * np.ptp(stack.z) + 1), *where])
        bump = rng.uniform(0.35, 1.0) * anatomy.blob(rng, stack, centre, radius)
        presence = np.maximum(presence, bump)
    return image + presence * (SOFT_TISSUE - image) * np.float32(rng.uniform(0.7, 1.0))


def _voxels(union: np.ndarray) -> np.ndarray:
    voxels = np.argwhere(union)
    return voxels if len(voxels) else np.array([union.shape]) // 2


def _walls(
    rng: Generator, stack: Stack, union: np.ndarray, image: np.ndarray, config: PhantomConfig
) -> np.ndarray:
    """Chest wall and organs, in a third of the crops against the nodule."""
    points = np.argwhere(union.any(axis=0)) - (stack.size - 1) / 2
    angle = rng.uniform(0, 2 * np.pi)
    for put, chance in ((anatomy.organ, 0.45), (anatomy.chest_wall, config.walls)):
        here = rng.uniform() < chance
        ends = points @ [np.sin(angle), np.cos(angle)]
        near = float(ends.max()) if len(ends) else 0.0
        touching = rng.uniform() < 0.33
        gap = near + (rng.uniform(-1, 2) if touching else rng.uniform(4, 0.45 * stack.size))
        image = put(rng, stack, image, angle, gap) if here else image
        angle += rng.uniform(0.6, 1.4) * np.pi
    return image


def _nodule(
    rng: Generator,
    stack: Stack,
    masks: np.ndarray,
    image: np.ndarray,
    character: Character,
    config: PhantomConfig,
) -> np.ndarray:
    """Blends the nodule in: its edge is a hidden compromise of the readers, plus some doubt."""
    weights = rng.dirichlet(np.full(masks.shape[1], 2.0)).astype(np.float32)
    sigma = 0.5 + (0.3 + 1.0 * character.softness) / stack.spacing * 0.5
    hidden = np.einsum("r,zrhw->zhw", weights, masks.astype(np.float32))
    hidden = gaussian_filter(hidden, (0, sigma, sigma), truncate=3)
    doubt = gaussian_filter(masks.mean(axis=1, dtype=np.float32), (0, sigma, sigma), truncate=3)
    stray = config.edge_shift * smooth_noise(rng, stack, 3.0)
    width = 0.07 + 0.12 * character.softness
    sure = sigmoid((hidden + stray * (doubt > 0.02) - 0.5) / width) * (doubt > 0.02)
    presence = (1 - config.doubt) * sure + config.doubt * doubt
    lumps = smooth_noise(rng, stack, 3.0)
    tissue = character.tissue + (25 + 60 * (character.tissue < -50)) * lumps
    level = LUNG + config.contrast * character.contrast * (tissue - LUNG)
    core = _core(rng, doubt, character, lumps)
    if character.structure in STRUCTURE_HU:
        level = level + core * (STRUCTURE_HU[character.structure] - level)
    elif character.calcified >= 0.5:
        level = level + core * rng.uniform(300, 900) * character.calcified
        level = np.where(core > 0.5, np.maximum(level, 150.0), level)
    return image + presence * (level - image)


def _core(rng: Generator, doubt: np.ndarray, character: Character, lumps: np.ndarray) -> np.ndarray:
    """Presence 0 to 1 of what lies inside the nodule: calcium, fluid, fat or air."""
    if character.pattern == CALCIFIED_THROUGHOUT:
        return sigmoid((doubt - 0.5) / 0.1)
    inner = gaussian_filter(doubt, (0, 2, 2), truncate=2)
    inner = inner / max(float(inner.max()), 1e-6)
    if character.pattern not in (CALCIFIED_CENTRE, NOT_CALCIFIED):
        inner = inner + 0.2 * lumps
    return sigmoid((inner - rng.uniform(0.65, 0.8)) / 0.06) * (doubt > 0.3)


def _scan(rng: Generator, stack: Stack, image: np.ndarray, config: PhantomConfig) -> np.ndarray:
    sigma = config.blur_mm * rng.lognormal(0, 0.25) / stack.spacing
    image = gaussian_filter(image.astype(np.float32), (0, sigma, sigma), truncate=3)
    image += scanner_noise(rng, stack, config.noise_hu * rng.lognormal(0, 0.5))
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)
