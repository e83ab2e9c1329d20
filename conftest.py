# SPDX-License-Identifier: Apache-2.0
"""Nova's choice between threads and eventlet, made before all other imports.

Native threads, as nova-compute's own default is; under eventlet with
OS_NOVA_DISABLE_EVENTLET_PATCHING=0 in the environment.
"""

import os

# For Nova's own test modules, which choose once more.
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "1")

from nova import monkey_patch

monkey_patch.patch()
