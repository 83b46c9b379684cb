"""How a model is built: kernels, masters, layers in few bits, compiled layers; and the one way to run it."""
