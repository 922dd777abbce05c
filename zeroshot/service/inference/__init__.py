"""From an image to its vector and from labels to a scorer, off the event loop: `pipeline` and what it uses."""
