"""Images to batches: datasets, beton files and feeds whose every pixel can be replayed."""
