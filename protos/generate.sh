#!/bin/sh
# Writes the Python code of the contract below $2, with the pinned generator in
# the virtual environment $1.
set -eu
venv=$1
out=$2
cd "$(dirname "$0")"
mkdir -p "$out"
PATH="$venv/bin:$PATH" "$venv/bin/python" -m grpc_tools.protoc -I . \
  --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" --mypy_grpc_out="$out" \
  spendgate/v1/*.proto
# Files without a service have no use for an empty stub module.
for file in spendgate/v1/*.proto; do
  grep -q '^service ' "$file" || rm -f "$out/${file%.proto}_pb2_grpc.py" "$out/${file%.proto}_pb2_grpc.pyi"
done
