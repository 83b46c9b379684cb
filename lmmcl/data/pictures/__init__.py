"""Pictures: how they are found, opened, checked and fetched."""
