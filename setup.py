# SPDX-License-Identifier: Apache-2.0
"""The one thing that pyproject.toml cannot say."""

from setuptools import Distribution
from setuptools import setup


class DistributionWithData(Distribution):
    """Have the data files in an editable installation too.

    For that setuptools looks for a method ``has_data``, which it does not have.
    """

    has_data = Distribution.has_data_files


setup(distclass=DistributionWithData)
