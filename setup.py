# SPDX-License-Identifier: Apache-2.0
"""The one setting of the build that pyproject.toml cannot express."""

from setuptools import Distribution
from setuptools import setup


class DistributionWithData(Distribution):
    """Install the data files in an editable installation too.

    Setuptools checks for them with a method ``has_data`` that it does not define.
    """

    has_data = Distribution.has_data_files


setup(distclass=DistributionWithData)
