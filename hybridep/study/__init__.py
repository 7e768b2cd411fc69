"""What every study does: read its arguments, keep its folder, run its trials on Ray, show how far it is."""
