"""The kind `a1111`: AUTOMATIC1111's web UI and servers that speak as it does, Forge and SD.Next."""
