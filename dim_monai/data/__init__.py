"""Cases in: lists, checks, readers, slices and the two-stream loader."""
