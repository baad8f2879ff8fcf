"""Documents of the Office Open XML formats."""
