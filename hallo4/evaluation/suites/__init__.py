"""What is evaluated: models in the portrait world, folders of videos, long videos, fast motion."""
