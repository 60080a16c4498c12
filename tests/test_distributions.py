import numpy as np
import pytest
from scipy import special, stats

from keras_proseg.distributions import DiagonalNormal, Dirichlet, standard_normal


def test_dirichlet_moments_and_marginals():
    alpha = np.array([0.5, 2.0, 4.0], "float32")
    draws = np.asarray(Dirichlet(alpha).sample(4000, [1, 2]))
    np.testing.assert_allclose(draws.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(draws.mean(0), alpha / alpha.sum(), atol=0.015)
    for k in range(3):
        beta = stats.beta(alpha[k], alpha.sum() - alpha[k])
        assert stats.kstest(draws[:, k], beta.cdf).pvalue > 1e-3


def test_dirichlet_kl_closed_form():
    a, b = np.array([2.0, 3.0, 0.5]), np.ones(3)
    expected = (
        special.gammaln(a.sum()) - special.gammaln(a).sum()
        - special.gammaln(b.sum()) + special.gammaln(b).sum()
        + ((a - b) * (special.psi(a) - special.psi(a.sum()))).sum()
    )  # fmt: skip
    assert float(Dirichlet(a).kl(Dirichlet(b))) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(Dirichlet(a).mean(), a / a.sum(), rtol=1e-6)


@pytest.mark.parametrize("concentration", [0.0, 1e-3, 1e4])
def test_extreme_concentrations_stay_finite(concentration):
    dirichlet = Dirichlet(np.full(8, concentration, "float32"))
    assert np.isfinite(dirichlet.sample(200, [0, 0])).all()
    assert np.isfinite(dirichlet.kl(Dirichlet(np.ones(8))))


def test_normal_kl_and_draw():
    q, p = DiagonalNormal(1.0, 2.0), DiagonalNormal(0.0, 1.0)
    assert float(q.kl(p)) == pytest.approx(0.5 * (4 + 1 - 1) - np.log(2), rel=1e-5)
    assert float(q.sample(0.5)) == pytest.approx(2.0)
    assert float(q.mean()) == 1.0


def test_standard_normal_seed_contract():
    one, two = standard_normal((500,), [0, 1]), standard_normal((500,), [0, 1])
    np.testing.assert_array_equal(one, two)
    assert (np.asarray(one) != np.asarray(standard_normal((500,), [0, 2]))).all()
    assert stats.kstest(np.asarray(one), "norm").pvalue > 1e-3
