"""One file per factor of p(y|z,tau) p(x|z) p(r|tau) p(tau) p(z)."""
