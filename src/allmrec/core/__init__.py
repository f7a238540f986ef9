"""What every part stands on: errors, files on disk, seeds, progress, the one training loop."""
