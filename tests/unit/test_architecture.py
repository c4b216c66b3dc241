"""The structure that docs/architecture.md promises, measured from the code's own imports."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("models/*.py"), *ROOT.glob("tandem_trial/*.py")])

# The floors of the house, from the roof down. A folder imports from itself and from the floors below its own; folders
# of one floor do not know each other.
FLOORS = [
    {"cli"},
    {"operations", "joining", "retraining", "export", "inspection", "doctor", "watching"},
    {"launch", "planning"},
    {"master", "worker", "analysis", "boards"},
    {"rpc", "search", "storage", "training"},
    {"run", "cluster"},
    {"problems"},
    {"settings"},
    {"records", "files", "runtime", "wording", "commits", "blas", "models"},
    {"errors", "bounds", "tandem_trial"},
]
HEIGHT = {room: -number for number, floor in enumerate(FLOORS) for room in floor}
# Where a library may be imported: each is slow to import, or ties what imports it to a kind of place.
HOMES = {
    "torch": {"models", "training", "retraining", "export"},
    "torchvision": {"training", "export"},
    # search/ has hpbandster's iteration, which is arithmetic; its threads and sockets are elsewhere.
    "hpbandster": {"search", "master", "worker"},
    "Pyro4": {"master", "worker", "rpc", "doctor"},
    "submitit": {"launch"},
    "h5py": {"storage"},
    # Extras: each writes the files of its own board.
    "tensorboard": {"boards"},
    "mlflow": {"boards"},
    "wandb": {"boards"},
}
# The search is a function of its results and its seed: what would make it depend on anything else stays outside.
IMPURE = {"threading", "queue", "socket", "subprocess", "os", "pathlib", "tempfile", "signal", "Pyro4", "h5py"}


def name_of(path: Path) -> str:
    """`pipeline.storage.curves`; a package's own file has the package's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def room_of(module: str) -> str:
    """`storage` for `pipeline.storage.curves`, `models` for `models.cost`."""
    parts = module.split(".")
    return parts[0] if parts[0] != "pipeline" else parts[1] if len(parts) > 1 else "pipeline"


@cache
def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it: inside functions and for type checkers only, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & set(MODULES) or {node.module}
    return found


@cache
def edges() -> dict[str, set[str]]:
    return {name: imports_of(path) & set(MODULES) - {name} for name, path in MODULES.items()}


def test_every_folder_is_on_a_floor() -> None:
    rooms = {room_of(name) for name in MODULES} - {"pipeline"}
    assert rooms == set(HEIGHT), "tests/unit/test_architecture.py and docs/architecture.md list other folders"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_one_way_between_folders(name: str) -> None:
    mine = room_of(name)
    for imported in edges()[name]:
        theirs = room_of(imported)
        if "pipeline" in (mine, theirs) or mine == theirs:
            continue
        assert HEIGHT[theirs] < HEIGHT[mine], f"{name} imports {imported}, which is not on a floor below"


def test_there_is_no_circle_of_modules() -> None:
    try:
        TopologicalSorter(edges()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of modules: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("name", MODULES)
def test_every_heavy_library_is_imported_in_its_own_folders_only(name: str) -> None:
    for module in imports_of(MODULES[name]):
        home = HOMES.get(module.split(".")[0])
        assert home is None or room_of(name) in home, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) == "search"])
def test_the_search_knows_no_threads_no_sockets_and_no_files(name: str) -> None:
    assert not {module.split(".")[0] for module in imports_of(MODULES[name])} & IMPURE


def test_every_class_has_a_name_of_its_own() -> None:
    homes: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    assert not {kind: where for kind, where in homes.items() if len(where) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
