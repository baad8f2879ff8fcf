"""The API described as OpenAPI 3.1, from the tables of routes of all doors."""
