"""When it runs: Dagster assets, the command line, the simulator."""
