#!/usr/bin/env bash
# Build the wheel and the sdist into dist/, check what is in them, and run the wheel in a bare environment.
#
#   PYTHON=.venv/bin/python scripts/release.sh
#
# PYTHON              interpreter with the package `build`; `twine` is used if it is installed. Default: python3.
# DEPENDENCIES_FROM   interpreter whose installed dependencies (torch is large) the bare environment uses. Default:
#                     they are installed anew, which also checks that pyproject.toml names all of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "release: $*" >&2
  exit 1
}

interpreter() {
  local path
  path=$(command -v "$1") || fail "there is no interpreter '$1'"
  [[ $path = /* ]] || path=$PWD/$path
  echo "$path"
}

python=$(interpreter "${PYTHON:-python3}")
base=$(interpreter "${DEPENDENCIES_FROM:-$python}")
"$python" -c 'import build' 2>/dev/null || fail "needs the package build: $python -m pip install build"
unset PYTHONPATH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
if [[ -f CITATION.cff ]]; then
  grep -qxF "version: $version" CITATION.cff || fail "CITATION.cff states another version than pyproject.toml ($version)"
fi

echo "== build saywhy $version"
rm -f dist/saywhy-"$version"{-*.whl,.tar.gz}
"$python" -m build --outdir dist >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; fail "the build failed"; }
wheel=$(echo "$PWD/dist/saywhy-$version"-*.whl)
sdist=$PWD/dist/saywhy-$version.tar.gz
[[ -f $wheel && -f $sdist ]] || fail "the build left no wheel or no sdist in dist/"

echo "== contents"
"$python" - "$wheel" "$sdist" <<'PYTHON'
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

wheel, sdist = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    inside = {name for name in archive.namelist() if not name.endswith("/")}
with tarfile.open(sdist) as archive:
    # Without the leading folder saywhy-<version>/.
    source = {str(PurePosixPath(*PurePosixPath(m.name).parts[1:])) for m in archive.getmembers() if m.isfile()}

problems = []
package = {p.relative_to("src").as_posix() for p in Path("src/saywhy").rglob("*") if p.is_file()}
package = {name for name in package if "__pycache__" not in name and not PurePosixPath(name).name.startswith(".")}
problems += [f"the wheel lacks {name}" for name in sorted(package - inside)]
problems += [f"the wheel has {n}" for n in sorted(inside - package) if not n.startswith("saywhy-")]
for pattern in ("*.safetensors", "*.js", "*.css", "*.j2", "py.typed"):
    found = [n for n in inside if n.startswith("saywhy/") and PurePosixPath(n).match(pattern)]
    print(f"{pattern}: {len(found)} in the wheel")
    if not found:
        problems.append(f"the wheel has no {pattern} under saywhy/")
if not any(PurePosixPath(n).name == "LICENSE" for n in inside):
    problems.append("the wheel has no LICENSE")

if not any(n.startswith("tests/") and PurePosixPath(n).match("test_*.py") for n in source):
    problems.append("the sdist has no tests")
for name in sorted(source):
    parts = PurePosixPath(name).parts
    if parts[0] in {"out", "dist", "build"} or {".venv", ".git", "__pycache__"} & set(parts):
        problems.append(f"the sdist has {name}")
for path in map(Path, (wheel, sdist)):
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
if problems:
    sys.exit("\n".join(f"release: {problem}" for problem in problems))
PYTHON

if "$python" -c 'import twine' 2>/dev/null; then
  echo "== twine check"
  "$python" -m twine check --strict "$wheel" "$sdist"
else
  echo "== twine is not installed: no twine check"
fi

echo "== install the wheel into a bare environment"
"$base" -m venv "$work/bare"
bare=$work/bare/bin
if [[ -n ${DEPENDENCIES_FROM:-} ]]; then
  "$bare/pip" install --quiet --no-index --no-deps "$wheel"
  # A path in a .pth file comes after the environment's own, and .pth files behind it (editable installs) are not read.
  purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
  "$base" -c "$purelib" >"$("$bare/python" -c "$purelib")/reused.pth"
else
  "$bare/pip" install --quiet "$wheel"
  "$bare/pip" check
fi

echo "== run it outside the checkout"
cd "$work"
imported=$("$bare/python" -c 'import saywhy; print(saywhy.__file__)')
[[ $imported = "$work"/bare/* ]] || fail "saywhy was imported from $imported, not from the wheel"
shown=$("$bare/saywhy" --version)
[[ $shown = "saywhy $version" ]] || fail "saywhy --version says '$shown', pyproject.toml says '$version'"
"$bare/saywhy" demo "$work/demo" >"$work/demo.log" 2>&1 || { cat "$work/demo.log" >&2; fail "saywhy demo failed"; }
[[ -s $work/demo/index.html ]] || fail "saywhy demo wrote no index.html"
cd - >/dev/null
echo "$shown: --version, import and demo work"

next="git tag v$version && git push origin v$version && python -m twine upload ${wheel#"$PWD/"} ${sdist#"$PWD/"}"
if [[ -n $(git status --porcelain 2>/dev/null || true) ]]; then
  next="commit what is not committed, and run this again"
elif ! grep -qE "^## \[?$version\b" CHANGELOG.md; then
  next="give $version its entry in CHANGELOG.md, commit, and run this again"
fi
echo "All checks passed. Next: $next"
