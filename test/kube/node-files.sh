# shellcheck shell=bash
# node-files.sh: what node.sh and machine.sh tell the container runtime and kubelet.

# node_files ROOT NUMBER CGROUPS writes the configuration of node NUMBER below ROOT; CGROUPS,
# cgroupfs or systemd, is who manages them. What more kubelet is told comes from stdin.
node_files() {
	mkdir -p "$1/etc/containerd" "$1/etc/cni/net.d" "$1/var/lib/kubelet"
	cat >"$1/etc/containerd/config.toml" <<-END
		version = 2
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "swiftblock.test/pause:1"
		  disable_apparmor = true
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/usr/lib/cni"
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
		      SystemdCgroup = $([ "$3" = systemd ] && echo true || echo false)
	END
	cat >"$1/etc/cni/net.d/10-test.conflist" <<-END
		{"cniVersion": "1.0.0", "name": "test", "plugins": [
			{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
				"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.$2.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
			{"type": "portmap", "capabilities": {"portMappings": true}}]}
	END
	{
		cat
		cat <<-END
			apiVersion: kubelet.config.k8s.io/v1beta1
			kind: KubeletConfiguration
			authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
			authorization: {mode: AlwaysAllow}
			cgroupDriver: $3
			containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
			evictionHard: {memory.available: 100Mi, nodefs.available: "1%"}
			failSwapOn: false
			imageMinimumGCAge: 10000h
			nodeStatusUpdateFrequency: 4s
			resolvConf: ""
		END
	} >"$1/var/lib/kubelet/config.yaml"
}
