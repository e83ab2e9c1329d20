# SPDX-License-Identifier: Apache-2.0
"""Let Nova choose between threads and eventlet before anything else is imported.

The default is native threads, like nova-compute's own. Set the environment variable
OS_NOVA_DISABLE_EVENTLET_PATCHING=0 to run the tests on eventlet.
"""

import os

# Nova's own test modules read it again.
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "1")

from nova import monkey_patch

monkey_patch.patch()
