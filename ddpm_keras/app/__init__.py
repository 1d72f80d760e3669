"""What only the commands use: options, the run directory, training and evaluation, progress."""
