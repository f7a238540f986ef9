"""The page of a report, with its style sheet and script."""
