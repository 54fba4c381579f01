"""Experiments that use the library as anyone would: claims of the papers, and costs."""
