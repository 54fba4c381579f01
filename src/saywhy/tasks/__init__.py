"""Tasks: visual question answering, captioning and counting, with the networks of the papers."""
