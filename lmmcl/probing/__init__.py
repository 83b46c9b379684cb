"""What probes and mitigations read of a model: answers, activations, gradients and logits of rows."""
