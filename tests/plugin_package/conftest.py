"""Nothing here is collected: to import the package would register it in the process of the tests."""

collect_ignore_glob = ["*.py"]
