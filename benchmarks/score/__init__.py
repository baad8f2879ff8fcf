"""How good the conversion of documents is: `make score`.

`corpus.py` reads a directory of documents with what they should become, `runner.py` converts them in a
process of its own per converter and category, `measures.py` compares, `report.py` makes the table.
"""
