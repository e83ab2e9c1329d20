# SPDX-License-Identifier: Apache-2.0
"""Data that engines send or receive in pieces: archives, events, framed output."""
