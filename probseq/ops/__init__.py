"""The functional core: tensors in, tensors out."""
