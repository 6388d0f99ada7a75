#!/bin/sh
# Refuses changes that would break programs which use the contract as it was
# released last; `make release-contract` says that this is the contract now.
set -eu
cd "$(dirname "$0")/.."
"$1" breaking --against protos/released.binpb
