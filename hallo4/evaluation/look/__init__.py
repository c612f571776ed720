"""Looking at videos: the instrument of the portrait world, and every curve of a file in constant memory."""
