"""A stage of a run as a Hugging Face folder, with its model card."""
