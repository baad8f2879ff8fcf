"""What opens one thing for a short while, in a URL that a browser calls: it can set no header there."""
