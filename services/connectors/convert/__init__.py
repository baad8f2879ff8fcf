"""Kind `convert`: a document becomes Markdown.

`connector.py` runs in the worker, everything else in a child process: `convert.py` asks `sniff.py` what
the file is and hands it to the reader of that format (`pdf.py`, `images.py`, `office.py`, `html.py`).
"""
