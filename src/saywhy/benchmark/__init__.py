"""Methods and metrics over a data set."""
