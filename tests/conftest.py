"""One thread: sums split among threads differ in the last bit, and tests compare bits."""

import os

# Read when torch is imported, here and in the processes that tests start.
os.environ['OMP_NUM_THREADS'] = '1'
