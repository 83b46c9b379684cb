"""What the model says: forwards whose logits exist where they are asked for, a chunk at a time."""
