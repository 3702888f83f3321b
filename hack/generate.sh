#!/bin/bash
# generate.sh: runs go generate with the generators pinned in hack/tools.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

need_packages protobuf-compiler
use_tools
go generate ./...
hack/chart.sh
