"""Tasks: visual question answering and captioning, with the networks of the papers."""
