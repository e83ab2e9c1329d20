# SPDX-License-Identifier: Apache-2.0
"""Code that each uWSGI worker runs at its start."""

import gc

# SQLAlchemy creates thousands of objects per request, and few of them are in cycles.
# With Python's default thresholds, garbage collection takes a quarter of Glance's CPU
# time.
gc.set_threshold(50_000, 20, 100)
