"""What a model is made of, found by structure, and which of it a recipe trains."""
