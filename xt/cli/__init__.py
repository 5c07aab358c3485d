"""The command line: one file per subcommand. Only here does `xt` print."""
