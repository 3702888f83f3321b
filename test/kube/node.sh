#!/bin/bash
# node.sh I ADDRESS HOST STATE PROGRAMS: makes the Kubernetes node "nodeI" of the guest that
# it runs in (cluster.sh starts it there) and stays until the guest ends. Everything else
# is behind HOST; STATE and PROGRAMS are directories of the host.
set -euo pipefail
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

cat >/run/containerd.toml <<'END'
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "swiftblock.test/pause:1"
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
END
cat >/etc/cni/net.d/10-test.conflist <<END
{"cniVersion": "1.0.0", "name": "test", "plugins": [
	{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
		"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.$number.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
	{"type": "portmap", "capabilities": {"portMappings": true}}]}
END
cat >/run/kubelet.yaml <<'END'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {memory.available: 100Mi, nodefs.available: "1%"}
failSwapOn: false
imageMinimumGCAge: 10000h
registerWithTaints: [{key: csi.swiftblock.dev/agent-not-ready, effect: NoExecute}]
nodeStatusUpdateFrequency: 4s
resolvConf: ""
syncFrequency: 10s
END

containerd -c /run/containerd.toml >>"$log.containerd" 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.1; done
shopt -s nullglob
take_in() { for image; do ctr -n k8s.io images import "$image" >>"$log.images" 2>&1; done; }
take_in "$state"/images/*.tar
take_in "$state"/images/later/*.tar & # large ones, which no pod wants at once
"$programs/kube-proxy" --kubeconfig "$state/proxy.kubeconfig" --hostname-override "$name" --proxy-mode iptables \
	--conntrack-max-per-core 0 --conntrack-min 0 >>"$log.proxy" 2>&1 &
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
	[ -e /run/kubelet.stopped ] || "$programs/kubelet" --config /run/kubelet.yaml --kubeconfig "$state/$name.kubeconfig" \
		--hostname-override "$name" --node-ip "$address" >>"$log.kubelet" 2>&1 || true
	sleep 0.2
done
