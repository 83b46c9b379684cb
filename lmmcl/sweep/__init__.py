"""Many runs from one config and a grid: what they are, how far each is, and a plain loop that runs them."""
