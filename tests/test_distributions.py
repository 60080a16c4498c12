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


def test_kl_is_tensorflow_probabilitys():
    tfd = pytest.importorskip("tensorflow_probability").distributions
    a = np.array([[0.3, 7.0], [1e-3, 2.0], [1e4, 0.5]], "float32")
    b = np.array([2.0, 1.0], "float32")
    expected = tfd.kl_divergence(tfd.Dirichlet(a.astype(float)), tfd.Dirichlet(b.astype(float)))
    found = numpy(Dirichlet(a).kl(Dirichlet(b)))
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-5)
    # A difference of log-gammas near 82,000, each of which float32 rounds to steps of 0.0078.
    step = np.spacing(np.float32(special.gammaln(1e4)))
    np.testing.assert_allclose(found[2], expected[2], rtol=0, atol=4 * step)
    normals = [(np.float32([0.0, -3.0]), np.float32([1e-2, 40.0])), (0.5, 2.0)]
    expected = tfd.kl_divergence(*(tfd.Normal(*pair) for pair in normals)).numpy()
    found = DiagonalNormal(*normals[0]).kl(DiagonalNormal(*normals[1]))
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-5)


def test_normal_kl_is_monte_carlos():
    q, p = DiagonalNormal(0.5, 1.5), DiagonalNormal(-0.5, 2.0)
    draws = numpy(q.sample(standard_normal((40000,), [5, 6])))
    ratio = stats.norm(0.5, 1.5).logpdf(draws) - stats.norm(-0.5, 2.0).logpdf(draws)
    assert float(numpy(q.kl(p))) == pytest.approx(ratio.mean(), abs=0.02)


def test_dirichlet_draws_carry_the_gradient_of_their_mean():
    """d E[tau_0] / d alpha in closed form, against the mean of the draws' own gradients."""
    alpha = np.array([1.5, 0.7, 3.0], "float32")

    def mean_of_first(concentration):
        return ops.mean(Dirichlet(concentration).sample(8000, [3, 4])[:, 0])

    total = alpha.sum()
    expected = np.array([total - alpha[0], -alpha[0], -alpha[0]]) / total**2
    np.testing.assert_allclose(gradient(mean_of_first, alpha), expected, atol=0.01)


@pytest.mark.parametrize("alpha", [[1.5, 0.7, 3.0], [0.05, 0.1, 0.3], [60.0, 5.0, 0.5]])
def test_dirichlet_draws_carry_the_gradient_that_a_numerical_derivative_finds(alpha):
    """d E[sin(3 tau_0)] / d alpha, against differences of the integral over tau_0's density."""

    def mean_of_draws(concentration):
        return ops.mean(ops.sin(3 * Dirichlet(concentration).sample(40000, [7, 8])[:, 0]))

    def integral(concentration):
        first, rest = concentration[0], concentration[1:].sum()
        # By quantiles: the density may be infinite at both ends.
        return np.sin(3 * stats.beta(first, rest).ppf((np.arange(20000) + 0.5) / 20000)).mean()

    alpha = np.array(alpha)
    steps = 1e-3 * np.diag(alpha)
    expected = [(integral(alpha + h) - integral(alpha - h)) / (2 * h.sum()) for h in steps]
    found = gradient(mean_of_draws, alpha.astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02 * np.abs(expected).max())


def test_normal_draws_carry_the_gradient_that_a_numerical_derivative_finds():
    noise = standard_normal((500,), [9, 10])

    def mean(scale):
        return ops.mean(ops.sin(DiagonalNormal(0.3, scale).sample(noise)))

    values = [float(numpy(mean(np.float32(scale)))) for scale in (1.19, 1.21)]
    expected = (values[1] - values[0]) / 0.02
    assert gradient(mean, np.float32(1.2)) == pytest.approx(expected, abs=1e-3)


def test_normal_draws_carry_the_gradient():
    def draw(scale):
        return ops.sum(DiagonalNormal(ops.zeros((3,)), scale).sample(np.float32([1.0, -2.0, 0.5])))

    np.testing.assert_allclose(gradient(draw, np.ones(3, "float32")), [1.0, -2.0, 0.5], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("concentration", [0.0, 1e-3, 1e4, [1e-3, 1e4, 1.0, 1e-3]])
def test_extreme_concentrations_stay_finite(concentration, dtype):
    weights = ops.convert_to_tensor([1.0, -2.0, 3.0, 0.5])

    def both(values):
        dirichlet = Dirichlet(ops.cast(values, dtype))
        kl = dirichlet.kl(Dirichlet(np.ones(4, "float32")))
        return ops.mean(dirichlet.sample(400, [0, 0]) * weights) + kl

    values = np.broadcast_to(np.float32(concentration), 4).copy()
    assert np.isfinite(float(numpy(both(ops.convert_to_tensor(values)))))
    assert np.isfinite(gradient(both, values)).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_extreme_variances_stay_finite(scale, dtype):
    def both(values):
        normal = DiagonalNormal(ops.cast(100.0 * ops.ones(3), dtype), ops.cast(values, dtype))
        return ops.sum(normal.kl(DiagonalNormal(0.0, 1.0)) + normal.sample(np.float32([3, -3, 0])))

    values = np.full(3, scale, "float32")
    assert np.isfinite(float(numpy(both(ops.convert_to_tensor(values)))))
    assert np.isfinite(gradient(both, values)).all()


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
