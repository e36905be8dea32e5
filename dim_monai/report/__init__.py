"""What a run leaves for its reader: the table of scores and one offline HTML page."""
