"""The structure that docs/architecture.md promises, measured from the code's own imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("models/*.py")])

# Each line may import from itself and from the lines below it.
LAYERS = [
    {"cli"},
    {"operations"},
    {"launch", "retraining"},
    {"array_tasks", "local_workers", "site", "worker_process"},
    {"worker", "workers"},
    {"baselines"},
    {"analysis"},
    {"search"},
    {"storage"},
    {"status_view"},
    {"status"},
    {"training"},
    {"rpc"},
    {"addresses", "allocation", "new_run"},
    {"sbatch_options"},
    {"slurm"},
    {"provenance", "history"},
    {"json_lines", "run_folder"},
    {"files"},
    {"models"},
    {"settings"},
    {"space"},
    {"records"},
    {"errors"},
]
HOMES = {
    "torch": {"models", "training", "retraining"},
    "torchvision": {"training"},
    "hpbandster": {"search", "worker", "workers", "rpc"},
    "Pyro4": {"search", "worker", "workers", "rpc"},
    "submitit": {"array_tasks", "launch", "local_workers", "retraining"},
    "h5py": {"storage"},
}


def part_of(module: str) -> str:
    """`pipeline.storage.curves` and `models.cost` as `storage` and `models`."""
    names = module.split(".")
    return "models" if names[0] == "models" else names[1] if len(names) > 1 else "pipeline"


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} if node.module == "pipeline" else {node.module}
    return found


def own_part(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    return "models" if relative.parts[0] == "models" else relative.parts[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_imports_from_a_part_above_its_own(path):
    height = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    mine = own_part(path)
    if mine == "__init__":
        return
    assert mine in height, f"{mine} is missing in LAYERS and docs/architecture.md"
    for module in imports_of(path):
        if module.split(".")[0] in ("pipeline", "models") and part_of(module) in height:
            assert height[part_of(module)] >= height[mine], f"{mine} imports {module}, which is above it"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_heavy_library_is_imported_in_its_own_parts_only(path):
    for module in imports_of(path):
        home = HOMES.get(module.split(".")[0])
        assert home is None or own_part(path) in home, f"{module} in {path}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
