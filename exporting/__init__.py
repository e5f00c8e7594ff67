"""From a trained run to one file for the line; see `exporting.export_run`."""
