# SPDX-License-Identifier: Apache-2.0
"""supervisord, with a workaround for a busy loop in its release 4.3.0.

This runs in the virtual environment, as a program.

supervisord keeps polling a file descriptor that it closed when a service ended. If
the next service gets the same number for its standard input, and closes it, then
poll() returns POLLERR at once from then on, and nothing handles that.
"""

from __future__ import annotations

import select

from supervisor import poller
from supervisor import supervisord


class Poller(poller.PollPoller):
    """A poller that treats POLLERR as it treats an invalid file descriptor."""

    def _ignore_invalid(self, fd: int, eventmask: int) -> bool:
        if eventmask == select.POLLERR:
            eventmask = select.POLLNVAL
        return super()._ignore_invalid(fd, eventmask)


if __name__ == "__main__":
    poller.Poller = Poller
    supervisord.main()
