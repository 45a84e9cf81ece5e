"""The page that a person reads about one verdict: everything in one HTML file that opens from disk."""
