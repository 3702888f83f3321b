// Package kube is the authority in Kubernetes: each record is a cluster-scoped
// custom resource, and etcd decides.
//
//	table       resource              name of an object
//	volumes     swiftblockvolumes     <volume id>
//	snapshots   swiftblocksnapshots   <snapshot id>
//	claims      swiftblockclaims      v-<hash> or s-<hash>
//	pins        swiftblockpins        <owner id>.<child id>
//
// Exclusive create is the API server's own. Compare-and-swap is its check of uid
// and resourceVersion, which together are a record's [authority.Version]. Reads
// name no resourceVersion, so that the API server answers as of now and not from
// a cache that lags behind; nothing is watched or cached here.
//
// A write is sent once. The client library would repeat one that may have taken
// effect, and a creator would then learn that somebody else came first.
//
// +kubebuilder:object:generate=false
// +groupName=swiftblock.dev
// +versionName=v1alpha1
package kube
