"""The fixed networks behind published metrics, as graphs of ours that load the published weights by name."""
