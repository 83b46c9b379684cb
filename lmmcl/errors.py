"""The one error for a mistake that its reader can mend."""

from lmmcl.redaction import redacted


class UserError(ValueError):
    """A mistake in a config, a file or a call; the command line prints it alone, without a traceback.

    The message says the rule, then the evidence, then the way out, and names the YAML key, for example
    ``trainer.callbacks: WiSEFT.alpha must lie in [0, 1], got 1.5.`` Tokens, keys and passwords in it are taken out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))
