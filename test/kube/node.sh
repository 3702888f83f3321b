#!/bin/bash
# node.sh I ADDRESS HOST STATE PROGRAMS: makes the Kubernetes node "nodeI" of the guest that
# it runs in (cluster.sh starts it there) and stays until the guest ends. Everything else
# is behind HOST; STATE and PROGRAMS are directories of the host.
set -euo pipefail
# shellcheck source=test/kube/node-files.sh
. "$(dirname "$(readlink -f "$0")")/node-files.sh"
name=node$1 number=$1 address=$2 host=$3 state=$4 programs=$5
disk=/var/lib/csi-swiftblock # the guest's ext4 disk

# The host's directories, at the same places.
for directory in "$state" "$programs"; do
	mkdir -p "$directory"
	mount -t hostfs -o "$directory" host "$directory"
done
log=$state/log/$name

hostname "$name"
echo "$address $name" >>/etc/hosts
echo "InitiatorName=iqn.2026-01.dev.swiftblock:$name" >/etc/iscsi/initiatorname.iscsi
od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >/etc/machine-id
modprobe -a loop overlay veth bridge br_netfilter ip_tables iptable_filter iptable_nat iptable_mangle ip6_tables \
	nf_conntrack xt_conntrack xt_comment xt_mark xt_addrtype xt_nat xt_statistic xt_recent xt_MASQUERADE || true
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
ip route add default via "$host"
for tool in iptables ip6tables; do # this kernel has no nf_tables
	update-alternatives --set $tool /usr/sbin/$tool-legacy >/dev/null
done
# kubelet reads the processor's speed, which this kernel does not tell.
{ sed '/^$/d' /proc/cpuinfo && printf 'cpu MHz\t\t: 2000.000\n'; } >/run/cpuinfo
mount --bind /run/cpuinfo /proc/cpuinfo

# What a node writes goes to its disk.
for directory in /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /etc/cni/net.d; do
	mkdir -p "$directory" "$disk/node$directory"
	mount --bind "$disk/node$directory" "$directory"
done
mount --make-rshared /

node_files "" "$number" cgroupfs <<'END'
registerWithTaints: [{key: csi.swiftblock.dev/agent-not-ready, effect: NoExecute}]
syncFrequency: 10s
END

containerd >>"$log.containerd" 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.1; done
shopt -s nullglob
take_in() { for image; do ctr -n k8s.io images import "$image" >>"$log.images" 2>&1; done; }
take_in "$state"/images/*.tar
take_in "$state"/images/later/*.tar & # large ones, which no pod wants at once
while true; do
	"$programs/kube-proxy" --kubeconfig "$state/proxy.kubeconfig" --hostname-override "$name" --proxy-mode iptables \
		--conntrack-max-per-core 0 --conntrack-min 0 >>"$log.proxy" 2>&1 || true
	sleep 1
done &
# Who has the key may stop and start kubelet as on any node, by ssh and this systemctl.
cat >/usr/local/bin/systemctl <<'END'
#!/bin/sh
case "$*" in
"stop kubelet") touch /run/kubelet.stopped && pkill -x kubelet; while pgrep -x kubelet >/dev/null; do sleep 0.1; done ;;
"start kubelet") rm -f /run/kubelet.stopped ;;
"show kubelet"*) pgrep -x kubelet >/dev/null && echo active || echo inactive ;;
*) echo "systemctl: what is that: $*" >&2; exit 1 ;;
esac
END
chmod +x /usr/local/bin/systemctl
mkdir -p /root/.ssh /etc/dropbear
chmod 700 /root/.ssh /etc/dropbear
cp "$state/ssh.key.pub" /root/.ssh/authorized_keys
dropbear -R -F -E -s -p 22 >>"$log.ssh" 2>&1 &
while true; do
	[ -e /run/kubelet.stopped ] || "$programs/kubelet" --config /var/lib/kubelet/config.yaml --kubeconfig "$state/$name.kubeconfig" \
		--hostname-override "$name" --node-ip "$address" >>"$log.kubelet" 2>&1 || true
	sleep 0.2
done
