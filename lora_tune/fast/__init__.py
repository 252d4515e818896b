"""Optional speed-ups of training that change no result but the random numbers of dropout."""
