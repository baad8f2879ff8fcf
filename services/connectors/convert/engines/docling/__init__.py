"""The engine `docling`: documents converted by a docling-serve."""
