"""Pure functions of arrays, key points and sound: what the metrics of all suites are made of."""
