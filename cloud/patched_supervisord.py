# SPDX-License-Identifier: Apache-2.0
"""supervisord, kept from a loop that takes a processor.

This runs in the virtual environment, as a program.

supervisord 4.3.0 goes on watching the number of a file that it has closed when a
service ended. When the next service has the same number for its input, and closes
that, poll() returns at once from then on, with an error that nobody handles.
"""

from __future__ import annotations

import select

from supervisor import poller
from supervisor import supervisord


class Poller(poller.PollPoller):
    def _ignore_invalid(self, fd: int, eventmask: int) -> bool:
        if eventmask == select.POLLERR:
            eventmask = select.POLLNVAL
        return super()._ignore_invalid(fd, eventmask)


if __name__ == "__main__":
    poller.Poller = Poller
    supervisord.main()
