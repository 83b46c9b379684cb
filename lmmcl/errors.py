"""The one error for a mistake that its reader can mend."""


class UserError(ValueError):
    """A mistake in a config, a file or a call; the command line prints it alone, without a traceback.

    The message says the rule, then the evidence, then the way out, and names the YAML key, for example
    ``trainer.callbacks: WiSEFT.alpha must lie in [0, 1], got 1.5.``
    """
