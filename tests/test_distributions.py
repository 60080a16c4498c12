import keras
import numpy as np
import pytest
from keras import ops
from on_backend import gradient
from scipy import special, stats

from keras_proseg.distributions import DiagonalNormal, Dirichlet, standard_normal

pytestmark = pytest.mark.backend


def numpy(values):
    return ops.convert_to_numpy(values)


def dirichlet_kl(a, b):
    return (
        special.gammaln(a.sum()) - special.gammaln(a).sum()
        - special.gammaln(b.sum()) + special.gammaln(b).sum()
        + ((a - b) * (special.psi(a) - special.psi(a.sum()))).sum()
    )  # fmt: skip


def test_dirichlet_moments_and_marginals():
    alpha = np.array([0.5, 2.0, 4.0], "float32")
    draws = numpy(Dirichlet(alpha).sample(4000, [1, 2]))
    np.testing.assert_allclose(draws.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(draws.mean(0), alpha / alpha.sum(), atol=0.015)
    variance = stats.dirichlet(alpha).var()
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.1)
    for k in range(3):
        beta = stats.beta(alpha[k], alpha.sum() - alpha[k])
        assert stats.kstest(draws[:, k], beta.cdf).pvalue > 1e-3


def test_dirichlet_kl_is_the_closed_form_and_monte_carlos():
    a, b = np.array([2.0, 3.0, 0.5]), np.array([1.0, 1.0, 1.0])
    kl = float(numpy(Dirichlet(a).kl(Dirichlet(b))))
    assert kl == pytest.approx(dirichlet_kl(a, b), rel=1e-5)
    draws = np.random.default_rng(0).dirichlet(a, 20000)
    ratio = [stats.dirichlet(c).logpdf(draws.T) for c in (a, b)]
    assert kl == pytest.approx(np.mean(ratio[0] - ratio[1]), abs=0.03)
    np.testing.assert_allclose(numpy(Dirichlet(a).mean()), a / a.sum(), rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFP runs on TensorFlow")
def test_kl_is_tensorflow_probabilitys():
    import tensorflow_probability as tfp

    a, b = np.array([0.3, 7.0], "float32"), np.array([2.0, 1.0], "float32")
    expected = tfp.distributions.kl_divergence(*(tfp.distributions.Dirichlet(c) for c in (a, b)))
    assert float(Dirichlet(a).kl(Dirichlet(b))) == pytest.approx(float(expected), rel=1e-6)


def test_dirichlet_draws_carry_the_gradient_of_their_mean():
    """d E[tau_0] / d alpha in closed form, against the mean of the draws' own gradients."""
    alpha = np.array([1.5, 0.7, 3.0], "float32")

    def mean_of_first(concentration):
        return ops.mean(Dirichlet(concentration).sample(8000, [3, 4])[:, 0])

    total = alpha.sum()
    expected = np.array([total - alpha[0], -alpha[0], -alpha[0]]) / total**2
    np.testing.assert_allclose(gradient(mean_of_first, alpha), expected, atol=0.01)


def test_normal_draws_carry_the_gradient():
    def draw(scale):
        return ops.sum(DiagonalNormal(ops.zeros((3,)), scale).sample(np.float32([1.0, -2.0, 0.5])))

    np.testing.assert_allclose(gradient(draw, np.ones(3, "float32")), [1.0, -2.0, 0.5], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("concentration", [0.0, 1e-3, 1e4])
def test_extreme_concentrations_stay_finite(concentration, dtype):
    def both(values):
        dirichlet = Dirichlet(ops.cast(values, dtype))
        kl = dirichlet.kl(Dirichlet(np.ones(8, "float32")))
        return ops.mean(dirichlet.sample(200, [0, 0])[:, 0]) + kl

    values = np.full(8, concentration, "float32")
    assert np.isfinite(float(numpy(both(ops.convert_to_tensor(values)))))
    assert np.isfinite(gradient(both, values)).all()


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_extreme_variances_stay_finite(scale):
    def kl(values):
        return ops.sum(DiagonalNormal(0.0, values).kl(DiagonalNormal(0.0, 1.0)))

    assert np.isfinite(gradient(kl, np.full(3, scale, "float32"))).all()


def test_normal_kl_and_draw():
    q, p = DiagonalNormal(1.0, 2.0), DiagonalNormal(0.0, 1.0)
    assert float(numpy(q.kl(p))) == pytest.approx(0.5 * (4 + 1 - 1) - np.log(2), rel=1e-5)
    assert float(numpy(q.sample(0.5))) == pytest.approx(2.0)
    assert float(numpy(q.mean())) == 1.0


def test_standard_normal_seed_contract():
    seeds = ([0, 1], [0, 1], [0, 2], [1, 1])
    one, two, *others = (numpy(standard_normal((500,), seed)) for seed in seeds)
    np.testing.assert_array_equal(one, two)
    for other in others:
        assert (one != other).all()
    assert stats.kstest(one, "norm").pvalue > 1e-3
