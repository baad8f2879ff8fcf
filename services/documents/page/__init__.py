"""From the lines of a page to its blocks: order, paragraphs, tables."""
