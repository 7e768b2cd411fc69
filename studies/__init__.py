"""One study or benchmark a file: `python studies/<name>.py --help`."""
