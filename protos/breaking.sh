#!/bin/sh
# Refuses changes that would break programs which use the contract as it is on
# main. There is nothing to compare with before the first commit that has it.
set -eu
buf=$1
base=${SPENDGATE_PROTO_BASE:-origin/main}
git rev-parse -q --verify "$base^{commit}" >/dev/null || base=HEAD
if ! git cat-file -e "$base:buf.yaml" 2>/dev/null; then
  echo "breaking changes: nothing to compare with yet"
  exit 0
fi
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$base" buf.yaml protos | tar -x -C "$before"
"$buf" breaking --against "$before"
