"""The web studio: ask models about images in a browser, and a REST API of the same names (extra ``studio``)."""
