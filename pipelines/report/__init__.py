"""The report: a static site per district, made from the published warehouse, read from disk without a network."""
