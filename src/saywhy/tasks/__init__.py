"""Tasks: visual question answering, captioning, counting and question generation, with the networks of the papers."""
