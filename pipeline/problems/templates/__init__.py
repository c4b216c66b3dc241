"""Files to start a problem of one's own from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pipeline.errors import SettingsError

_FILES = {".py": "problem.py.txt", ".yaml": "settings.yaml.txt"}


def write_templates(name: str, folder: Path) -> list[Path]:
    """Write NAME.py and NAME.yaml, which can be searched as they are.

    Raises:
        SettingsError: the name is no Python name, or a file of that name is there.
    """
    if not name.isidentifier():
        raise SettingsError(f"init: {name!r} is not a Python name: letters, digits and _, such as my_problem")
    paths = [folder / f"{name}{suffix}" for suffix in _FILES]
    for path in paths:
        if path.exists():
            raise SettingsError(f"init: {path} is there already; give another name, or move it away")
    for path, template in zip(paths, _FILES.values(), strict=True):
        text = resources.files(__name__).joinpath(template).read_text(encoding="utf-8")
        path.write_text(text.replace("NAME", name), encoding="utf-8")
    return paths
