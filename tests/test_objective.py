import numpy as np
import pytest
from scipy import stats

from keras_proseg import objective as obj
from keras_proseg.config import ModelConfig

RNG = np.random.default_rng(0)


def test_bernoulli_nll_is_scipys():
    mask = RNG.integers(0, 2, (2, 3, 4, 5, 1)).astype("float32")
    logits = RNG.normal(size=mask.shape).astype("float32")
    expected = -stats.bernoulli.logpmf(mask, 1 / (1 + np.exp(-logits))).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(obj.bernoulli_nll(mask, logits), expected, rtol=1e-5)


def test_gaussian_nll_is_scipys():
    image, mean = RNG.normal(size=(2, 2, 4, 5, 1)).astype("float32")
    expected = -stats.norm.logpdf(image, mean, 0.7).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(obj.gaussian_nll(image, mean, 0.7), expected, rtol=1e-5)


def test_soft_dice_of_a_perfect_and_an_opposite_mask():
    mask = np.zeros((1, 1, 8, 8, 1), "float32")
    mask[..., :4, :, :] = 1
    perfect = obj.soft_dice_loss(mask, mask, True)
    opposite = obj.soft_dice_loss(mask, 1 - mask, False)
    assert float(perfect[0, 0]) == pytest.approx(0, abs=1e-5)
    assert float(opposite[0, 0]) == pytest.approx(1 - 1 / 65, abs=1e-5)


def test_soft_dice_with_the_background_is_the_mean_of_both():
    probability = RNG.uniform(0, 1, (2, 3, 6, 8, 2)).astype("float32")
    mask = RNG.integers(0, 2, probability.shape).astype("float32")
    both = obj.soft_dice_loss(mask, probability, True)
    parts = [
        obj.soft_dice_loss(m, p, False)
        for m, p in [(mask, probability), (1 - mask, 1 - probability)]
    ]
    np.testing.assert_allclose(both, sum(parts) / 2, rtol=1e-5)


def test_missing_raters_do_not_count():
    values = np.array([[1.0, 5.0], [3.0, np.inf]], "float32")
    annotated = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(obj.annotated_mean(values, annotated), [3.0, 3.0])


def test_objective_with_all_weights_one_is_the_negative_bound():
    values = RNG.uniform(1, 9, (7, 2)).astype("float32")
    terms = obj.ElboTerms(*values, num_pixels=16.0, num_latents=4.0)
    weights = {"nll_weight": 1, "image_weight": 1, "rater_weight": 1, "beta_tau": 1, "beta_z": 1}
    config = ModelConfig(reduction="sum", dice_weight=0, energy_weight=0, **weights)
    constant = 16 * obj.LOG_2PI / 2
    np.testing.assert_allclose(obj.objective(terms, config), -terms.elbo() - constant, rtol=1e-5)


def test_the_bound_in_nats_has_them_of_every_class_and_channel():
    values = RNG.uniform(1, 9, (7, 2)).astype("float32")
    terms = obj.ElboTerms(*values, num_pixels=16.0, num_latents=4.0)
    weights = {"nll_weight": 1, "image_weight": 1, "rater_weight": 1, "beta_tau": 1, "beta_z": 1}
    weights |= {"dice_weight": 0, "energy_weight": 0, "num_classes": 3, "image_channels": 2}
    constant = 16 * 2 * obj.LOG_2PI / 2
    nats = obj.objective(terms, ModelConfig(reduction="sum", **weights))
    np.testing.assert_allclose(nats, -terms.elbo() - constant, rtol=1e-5)
    terms = terms._replace(kl_tau=0.0, kl_z=0.0, nll_rater=0.0)
    mean = obj.objective(terms, ModelConfig(**weights))
    expected = terms.nll_mask / (16 * 3) + (terms.nll_image - constant) / (16 * 2)
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_mean_reduction_divides_by_pixels_and_latents():
    terms = obj.ElboTerms(16.0, 16 * obj.LOG_2PI / 2, 0.0, 0.0, 4.0, 0.25, 0.125, 16.0, 4.0)
    config = ModelConfig(nll_weight=2.0, dice_weight=1.0, energy_weight=4.0, beta_z=0.5)
    assert float(obj.objective(terms, config)) == pytest.approx(2 + 0.25 + 0.5 + 0.5, rel=1e-5)


def test_soft_iou_distance_of_masks_is_one_minus_iou():
    a, b = RNG.integers(0, 2, (2, 2, 3, 8, 8, 1)).astype("float32")
    iou = (a * b).sum(axis=(2, 3, 4)) / np.maximum(a, b).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(obj.soft_iou_distance(a, b, smooth=0.0), 1 - iou, rtol=1e-5)
    np.testing.assert_allclose(obj.soft_iou_distance(a * 0, a * 0), 0.0, atol=1e-6)


def test_energy_score_with_one_draw_is_the_distance_and_with_two_takes_half_their_own():
    first, second = RNG.uniform(0, 1, (2, 2, 3, 8, 8, 1)).astype("float32")
    mask = RNG.integers(0, 2, first.shape).astype("float32")
    d = obj.soft_iou_distance
    np.testing.assert_allclose(obj.energy_score(mask, [first]), d(first, mask), rtol=1e-5)
    expected = (d(first, mask) + d(second, mask) - d(first, second)) / 2
    np.testing.assert_allclose(obj.energy_score(mask, [first, second]), expected, rtol=1e-5)


def test_energy_score_is_least_for_the_distribution_of_the_masks():
    def drawn(share: float, size: int) -> np.ndarray:
        small = (np.arange(size) < share * size)[:, None, None, None, None]
        disc = np.zeros((2, 8, 8, 1), "float32")
        disc[0, 2:4, 2:4], disc[1, 1:7, 1:7] = 1, 1
        return np.where(small, disc[0], disc[1])[None]

    def expected_score(share: float) -> float:
        masks, draws = drawn(0.5, 60), drawn(share, 60)
        moved = [np.roll(draws, k, axis=1) for k in range(0, 60, 5)]
        pairs = [obj.energy_score(masks, [a, b]) for a in moved for b in moved]
        return float(np.mean(pairs))

    scores = {share: expected_score(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    assert min(scores, key=scores.get) == 0.5


def test_means_are_over_classes_and_channels_too():
    config = ModelConfig(num_classes=3, image_channels=2, nll_weight=2.0, image_weight=0.5)
    image = 32 * obj.LOG_2PI / 2 + 32.0
    terms = obj.ElboTerms(48.0, image, 0.0, 0.0, 0.0, 0.0, 0.0, 16.0, 4.0)
    assert float(obj.objective(terms, config)) == pytest.approx(2.0 + 0.5, rel=1e-5)


def test_each_weight_is_of_its_own_term():
    config = ModelConfig(image_decoder="none", rater_weight=2.0, beta_tau=0.1)
    terms = obj.ElboTerms(0.0, 0.0, 3.0, 5.0, 0.0, 0.0, 0.0, 16.0, 4.0)
    assert float(obj.objective(terms, config)) == pytest.approx(2 * 3 + 0.1 * 5)


def test_energy_score_of_three_draws_takes_half_the_mean_of_their_pairs():
    draws = RNG.uniform(0, 1, (3, 2, 3, 8, 8, 1)).astype("float32")
    mask = RNG.integers(0, 2, draws[0].shape).astype("float32")
    d = obj.soft_iou_distance
    own = sum(d(draws[a], draws[b]) for a, b in ((0, 1), (0, 2), (1, 2))) / 3
    expected = sum(d(draw, mask) for draw in draws) / 3 - own / 2
    np.testing.assert_allclose(obj.energy_score(mask, list(draws)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "distance", [lambda a, b: obj.soft_dice_loss(a, b, False), obj.soft_iou_distance]
)
def test_distances_are_means_over_classes(distance):
    a, b = RNG.integers(0, 2, (2, 2, 3, 8, 8, 2)).astype("float32")
    each = [distance(a[..., k : k + 1], b[..., k : k + 1]) for k in (0, 1)]
    np.testing.assert_allclose(distance(a, b), sum(each) / 2, rtol=1e-5)
