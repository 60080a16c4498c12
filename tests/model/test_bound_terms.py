"""Each term of the bound against a closed form, or against what must not change it."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import digamma, gammaln
from tiny_model import batch, tiny

from keras_proseg.bound import Rows, _choose, _keys
from keras_proseg.objective import ElboTerms, objective

numpy = keras.ops.convert_to_numpy
TERMS = ("nll_mask", "nll_image", "nll_rater", "kl_tau", "kl_z", "dice_loss")


def terms_of(model, data):
    """The terms with the latents of a fixed seed, as NumPy."""
    return ElboTerms(*map(numpy, model.elbo_terms(data, training=False)))


def test_kl_of_z_is_that_of_a_gaussian_from_the_standard_one():
    model, data = tiny(ambiguity_start_scale=0.5), batch()
    _, heads = model.encode(data["image"])
    q_z = model.ambiguity.q_z(heads)
    mean = numpy(q_z.mean())
    scale = numpy(q_z.sample(keras.ops.ones(mean.shape))) - mean
    expected = ((mean**2 + scale**2 - 1) / 2 - np.log(scale)).sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(terms_of(model, data).kl_z, expected, rtol=1e-4)


def test_kl_of_tau_is_that_of_a_dirichlet_from_the_flat_one():
    model = tiny()
    a = np.log1p(np.exp(numpy(model.preference.concentration).astype(float)))
    total = a.sum(axis=1)
    kl = gammaln(total) - gammaln(a).sum(axis=1) - gammaln(a.shape[1])
    kl += ((a - 1) * (digamma(a) - digamma(total)[:, None])).sum(axis=1)
    np.testing.assert_allclose(terms_of(model, batch()).kl_tau, kl.mean(), rtol=1e-3)


def test_terms_are_means_over_draws():
    still = {"preference_start": (1e4, 1e4), "ambiguity_start_scale": 0.01}
    one, two = (terms_of(tiny(draws_per_step=n, **still), batch()) for n in (1, 2))
    for name in TERMS:
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=0.01)


def test_each_draw_is_another_one():
    one, two = (terms_of(tiny(draws_per_step=n), batch()) for n in (1, 2))
    assert (one.nll_image != two.nll_image).all()


def test_every_draw_of_every_step_has_a_key_of_its_own():
    model = tiny()
    keys = [tuple(numpy(key).ravel()) for _ in range(3) for key in _keys(model, True, 5)]
    assert len(set(keys)) == 15
    fixed = [[tuple(numpy(key)) for key in _keys(model, False, 5)] for _ in range(2)]
    assert fixed[0] == fixed[1]
    assert len(set(fixed[0])) == 5


def test_the_penalty_is_part_of_the_loss():
    model, data = tiny(mask_l2=1.0), batch()
    terms, loss = model.compute_terms_and_loss(data, training=False)
    kernels = [w for w in model.mask_decoder.trainable_weights if w.path.endswith("kernel")]
    penalty = sum(float((numpy(kernel) ** 2).sum()) for kernel in kernels)
    assert penalty > 1
    bound = float(numpy(objective(terms, model.settings)).mean())
    assert float(numpy(loss)) - bound == pytest.approx(penalty, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_raters_of_a_step_are_the_annotated_ones(count):
    """Of images with one rater each, more than one in a step are none more."""
    data = batch(3) | {"annotated": np.eye(3, dtype=bool)}
    some, every = (terms_of(tiny(raters_per_step=n), data) for n in (count, None))
    for name in TERMS:
        np.testing.assert_allclose(getattr(some, name), getattr(every, name), rtol=1e-4)


def test_an_image_without_raters_has_the_terms_of_an_image_alone():
    data, none = batch(2), batch(2)
    none["annotated"][:] = False
    every, alone = (terms_of(tiny(), d) for d in (data, none))
    for name in ("nll_image", "kl_z"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(every, name))
    for name in ("nll_mask", "nll_rater", "kl_tau", "dice_loss", "energy_score"):
        assert not getattr(alone, name).any()


def test_the_image_that_is_decoded_is_the_scaled_one():
    data = batch(2)
    models = [tiny(intensity={"mode": "divide", "scale": scale}) for scale in (1.0, 100.0)]
    wide = data | {"image": 100 * data["image"]}
    one, two = (terms_of(m, d).nll_image for m, d in zip(models, (data, wide), strict=True))
    np.testing.assert_allclose(two, one, rtol=1e-4)


def test_padding_is_no_part_of_a_term():
    terms = terms_of(tiny(), batch(2, pixels=30))
    assert terms.num_pixels == 900
    assert np.isfinite(terms.nll_image).all()


def test_z_of_each_rater_is_decoded_to_its_own_image():
    model, data = tiny(ambiguity_per_rater=True), batch()
    before = terms_of(model, data).nll_image[0]
    data["image"][1:] *= 50
    np.testing.assert_allclose(terms_of(model, data).nll_image[0], before, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "values", "term"),
    [("dice_background", (False, True), "dice_loss"), ("image_scale", (1.0, 2.0), "nll_image")],
)
def test_settings_of_a_term_are_heeded(name, values, term):
    one, two = (getattr(terms_of(tiny(**{name: v}), batch(2)), term) for v in values)
    assert (one != two).all()


@pytest.mark.parametrize("value", [255, -1])
def test_masks_beyond_0_to_1_make_no_term(value):
    data = batch(2)
    data["masks"] = data["masks"].astype("int16") * value
    assert np.isnan(terms_of(tiny(), data).nll_mask).all()
    data["annotated"][:, 1:] = False
    data["masks"][:, 0] = 1  # of the only rater there is
    assert np.isfinite(terms_of(tiny(), data).nll_mask).all()


def test_every_rater_has_a_turn():
    """Else `published`, which takes one of them a step, would learn one of them."""
    model = tiny(raters_per_step=1)
    annotated = ops.ones((64, 3), "bool")
    keys = _keys(model, True, 2)
    first, second = (
        ops.convert_to_numpy(_choose(model, annotated, Rows(0, 64, 64), key)[0]) for key in keys
    )
    assert set(first.ravel().tolist()) == {0, 1, 2}
    assert (first != second).any()
