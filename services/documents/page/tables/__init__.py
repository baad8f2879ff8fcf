"""Tables, found by lines, by rules or by how cells stand."""
