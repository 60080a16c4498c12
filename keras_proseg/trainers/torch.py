"""The training step on PyTorch."""

from typing import Any

import keras
import torch

Adam = keras.optimizers.Adam


class TrainStep:
    """One optimiser step on the bound; a step that is not finite changes nothing but its count."""

    def train_step(self: Any, batch: Any) -> dict[str, Any]:
        """Takes a batch {image, masks, annotated}; returns the trackers."""
        self.zero_grad()
        terms, loss = self.compute_terms_and_loss(batch, training=True)
        self.optimizer.scale_loss(loss).backward()
        weights = self.trainable_variables
        gradients = [_gradient(weight.value) for weight in weights]
        with torch.no_grad():
            good = bool(torch.isfinite(loss)) and all(
                bool(torch.isfinite(gradient).all()) for gradient in gradients
            )
            if good or self.scales_loss:
                self.optimizer.apply(gradients, weights)
            self.count_step(good)
            return self.record(terms, loss, good)

    def test_step(self: Any, batch: Any) -> dict[str, Any]:
        """The same trackers, without a step and with latents of a fixed seed."""
        with torch.no_grad():
            return self.record(*self.compute_terms_and_loss(batch, training=False))

    def sync_state(self: Any) -> None:
        """Nothing to do: the variables hold the state of a running `fit`."""

    def replica(self: Any) -> tuple[int, int]:
        """Which replica this is, and of how many: one process, one device."""
        return 0, 1

    def parts_of(self: Any, size: Any) -> int:
        """Into how many parts a step's batch falls: one operation runs at a time."""
        return 1


def _gradient(weight: Any) -> Any:
    """Zeros for a weight that the loss does not reach."""
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
