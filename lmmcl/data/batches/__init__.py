"""From rows to batches: template, label mask, order, micro-batches, packing, loader."""
