"""The parts of mqueue_kemi. What a script may use is in `mqueue_kemi` itself."""
