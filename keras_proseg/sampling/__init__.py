"""How a trained model answers: whose draws, their tensors, passes and views."""
