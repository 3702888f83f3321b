#!/bin/bash
# reboot.sh: a node with systemd and our host unit is rebooted in good order while pods
# write: it goes down in time, comes back, and nothing is lost; also where the driver's pod
# had gone for good before. The node is a machine of machine.sh, emulated and slow; the
# controller is on another node.
#
#   MUTANT=1   and once more without the host unit: then the reboot must not end, or the
#              rest proves nothing
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

export KUBE_NODES="guest machine" KUBE_NETNS=${KUBE_NETNS:-sbreboot} KUBE_STATE=${KUBE_STATE:-.cache/kube-reboot}
export MACHINE_GRACE=30s MACHINE_GRACE_CRITICAL=10s
exec test/kube/e2e.sh reboots_install reboot_in_order reboot_without_export ${MUTANT:+reboot_without_unit}
