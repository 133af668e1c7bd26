"""Makes this checkout importable as `rootstock` where nothing is installed."""

import importlib.util
import pathlib
import sys

if importlib.util.find_spec("rootstock") is None:
    root = pathlib.Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location("rootstock", root / "__init__.py", submodule_search_locations=[str(root)])
    sys.modules["rootstock"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["rootstock"])
