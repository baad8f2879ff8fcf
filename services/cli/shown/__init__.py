"""What a terminal shows: text of anybody, times, sizes and tables in the columns that there are."""
