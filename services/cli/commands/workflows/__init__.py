"""Commands about workflows and the files that hold them."""
