"""The package's front door."""

import subprocess
import sys

import pytest

import srt_distill


def test_every_public_name_is_there():
    for name in srt_distill.__all__:
        assert callable(getattr(srt_distill, name))
    assert dir(srt_distill) == srt_distill.__all__


def test_an_unknown_name_is_an_attribute_error_that_names_the_known():
    with pytest.raises(AttributeError, match="no attribute 'Distiller'; it has BackboneOptions"):
        srt_distill.Distiller  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, srt_distill; print([m for m in ('torch', 'timm', 'datasets') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
