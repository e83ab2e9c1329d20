# SPDX-License-Identifier: Apache-2.0
"""What an engine sends or takes bit by bit: archives, events, frames of output."""
