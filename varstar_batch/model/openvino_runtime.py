"""The one place that imports OpenVINO: without its model converter, which tells its maker so over the network."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_CONVERTER = "openvino.tools.ovc"


def load_openvino() -> ModuleType:
    """Import OpenVINO.

    Its package also imports its converter of models, if that can be imported, which nothing here needs: it takes as
    long again, starts a thread that sends the import to a statistics service, and writes an identifier into the user's
    home.
    """
    modules: dict[str, Any] = sys.modules
    held_back = _CONVERTER not in modules
    if held_back:
        modules[_CONVERTER] = None  # as Python's documentation has it: the import fails
    try:
        import openvino
    finally:
        if held_back:
            del modules[_CONVERTER]
    module: ModuleType = openvino
    return module
