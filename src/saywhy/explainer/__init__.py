"""Running a request: its settings, the layers, the runner and the rerunner."""
