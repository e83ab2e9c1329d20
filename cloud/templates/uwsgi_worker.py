# SPDX-License-Identifier: Apache-2.0
"""What each worker of uWSGI does first."""

import gc

# SQLAlchemy makes thousands of objects for a call, and few of them in cycles. With
# Python's own figures, looking for those takes a quarter of Glance's processor time.
gc.set_threshold(50_000, 20, 100)
