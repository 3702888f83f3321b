package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

//go:generate controller-gen crd paths=. output:crd:dir=../../../charts/csi-swiftblock/crds

// Content is what every custom resource of the driver holds beside its metadata.
//
// The schema leaves the record open, and this package checks it: a schema that is
// older than the controller would silently drop the fields that it does not know.
type Content struct {
	// Format of the record.
	Format int `json:"format"`
	// Revision is drawn anew by each change, so that storing the same record
	// again is a change, too.
	Revision string `json:"revision"`
	// Size in a form for people to read; the record has the bytes.
	Size string `json:"size,omitempty"`
	// Record belongs to the controller.
	// +kubebuilder:pruning:PreserveUnknownFields
	Record runtime.RawExtension `json:"record"`
}

// Status is how a volume fares, for people to see: the controller that leads looks
// at it every minute. Nothing is decided by it.
type Status struct {
	// Health is Good, or the worst of the conditions: Degraded, Inaccessible, DataLoss.
	Health string `json:"health,omitempty"`
	// Dirty is DirtyBytes in a form for people to read.
	Dirty string `json:"dirty,omitempty"`
	// DirtyBytes are in the journal of a node and not yet in Swift.
	DirtyBytes int64 `json:"dirtyBytes,omitempty"`
	// Published is the time that the newest data in Swift is of.
	Published *metav1.Time `json:"published,omitempty"`
	// Conditions are what an administrator must know. The type says what, the reason
	// how bad it is, the message also what to do. They go when they have passed.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Untold are the types of conditions whose coming or going no event has told yet.
	// +listType=set
	Untold []string `json:"untold,omitempty"`
}

// SwiftblockVolume is a volume; its name is the volumeHandle of the
// PersistentVolume. It says which node may write to the volume: changing or
// deleting it by hand loses data. The controller alone writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=sbv
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name=Size,type=string,JSONPath=`.size`
// +kubebuilder:printcolumn:name=Node,type=string,JSONPath=`.record.binding.node`
// +kubebuilder:printcolumn:name=State,type=string,JSONPath=`.record.state`
// +kubebuilder:printcolumn:name=Epoch,type=string,JSONPath=`.record.opening.epoch`
// +kubebuilder:printcolumn:name=Open,type=boolean,JSONPath=`.record.opening.open`
// +kubebuilder:printcolumn:name=Dirty,type=string,JSONPath=`.status.dirty`
// +kubebuilder:printcolumn:name=Published,type=date,JSONPath=`.status.published`
// +kubebuilder:printcolumn:name=Health,type=string,JSONPath=`.status.health`
// +kubebuilder:printcolumn:name=Generation,type=string,JSONPath=`.record.head.generation`,priority=1
// +kubebuilder:printcolumn:name=Name,type=string,JSONPath=`.record.name`,priority=1
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type SwiftblockVolume struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Content           `json:",inline"`
	Status            Status `json:"status,omitempty"`
}

// SwiftblockSnapshot is a snapshot; its name is the snapshotHandle of the
// VolumeSnapshotContent. The controller alone writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=sbs
// +kubebuilder:printcolumn:name=Size,type=string,JSONPath=`.size`
// +kubebuilder:printcolumn:name=Source,type=string,JSONPath=`.record.source`
// +kubebuilder:printcolumn:name=State,type=string,JSONPath=`.record.state`
// +kubebuilder:printcolumn:name=Name,type=string,JSONPath=`.record.name`,priority=1
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type SwiftblockSnapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Content           `json:",inline"`
}

// SwiftblockClaim says which volume or snapshot a CSI name means at present. The
// controller alone writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name=Name,type=string,JSONPath=`.record.name`
// +kubebuilder:printcolumn:name=Id,type=string,JSONPath=`.record.id`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type SwiftblockClaim struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Content           `json:",inline"`
}

// SwiftblockPin keeps the objects of a volume in Swift for a clone of it. The
// controller alone writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name=Owner,type=string,JSONPath=`.record.owner`
// +kubebuilder:printcolumn:name=Child,type=string,JSONPath=`.record.child`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type SwiftblockPin struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Content           `json:",inline"`
}
