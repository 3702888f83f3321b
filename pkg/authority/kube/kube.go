package kube

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

var groupVersion = schema.GroupVersion{Group: "swiftblock.dev", Version: "v1alpha1"}

// Authority is the set of tables in one cluster. Any number of processes may
// have one.
type Authority struct {
	volumes   *table[authority.Volume]
	snapshots *table[authority.Snapshot]
	claims    *table[authority.Claim]
	pins      *table[authority.Pin]
}

var _ authority.Authority = (*Authority)(nil)

// Open returns the authority in the cluster that config leads to. It does not
// ask the cluster anything.
func Open(config *rest.Config) (*Authority, error) {
	client, err := client(config)
	if err != nil {
		return nil, err
	}
	return &Authority{
		volumes: &table[authority.Volume]{
			client: client, resource: volumesResource, kind: volumesKind,
			size: func(v authority.Volume) int64 { return v.Size },
		},
		snapshots: &table[authority.Snapshot]{
			client: client, resource: "swiftblocksnapshots", kind: "SwiftblockSnapshot",
			size: func(s authority.Snapshot) int64 { return s.Size },
		},
		claims: &table[authority.Claim]{client: client, resource: "swiftblockclaims", kind: "SwiftblockClaim"},
		pins:   &table[authority.Pin]{client: client, resource: "swiftblockpins", kind: "SwiftblockPin"},
	}, nil
}

const (
	volumesResource = "swiftblockvolumes"
	volumesKind     = "SwiftblockVolume"
)

// client leads to the custom resources.
func client(config *rest.Config) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // for metav1.Status
	config.GroupVersion = &groupVersion
	config.APIPath = "/apis"
	config.ContentType = runtime.ContentTypeJSON
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("authority in Kubernetes: %w", err)
	}
	return client, nil
}

// Volumes implements [authority.Authority].
func (a *Authority) Volumes() authority.Table[authority.Volume] { return a.volumes }

// Snapshots implements [authority.Authority].
func (a *Authority) Snapshots() authority.Table[authority.Snapshot] { return a.snapshots }

// Claims implements [authority.Authority].
func (a *Authority) Claims() authority.Table[authority.Claim] { return a.claims }

// Pins implements [authority.Authority].
func (a *Authority) Pins() authority.Table[authority.Pin] { return a.pins }
