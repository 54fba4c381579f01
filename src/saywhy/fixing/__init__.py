"""``fix``: train a classifier so that it relies on what people say matters, and find out whether that helped."""
