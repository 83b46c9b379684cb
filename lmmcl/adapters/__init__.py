"""Surgery on a model: adapters on a recipe's layers, and how the tensors of a stage fold into plain weights."""
