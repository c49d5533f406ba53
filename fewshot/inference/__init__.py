"""From test images to the submission."""
