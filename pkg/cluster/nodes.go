// Package cluster is what the controller asks of Kubernetes: its nodes, and their start-up
// taint, which of several controllers leads, and where secrets are kept.
package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// Nodes are the nodes of a cluster, by name.
type Nodes struct{ client typed.NodesGetter }

// NewNodes returns the nodes of the cluster that config leads to.
func NewNodes(config *rest.Config) (Nodes, error) {
	client, err := typed.NewForConfig(config)
	if err != nil {
		return Nodes{}, fmt.Errorf("nodes of Kubernetes: %w", err)
	}
	return Nodes{client}, nil
}

// Known reports whether there is such a node.
func (n Nodes) Known(ctx context.Context, name string) (bool, error) {
	node, err := n.get(ctx, name)
	return node != nil, err
}

// GivenUp reports whether the node is gone for good: an administrator has removed
// it, or has set the taint that promises it is off. That it does not answer is no
// such sign: it may come back with the volume open.
func (n Nodes) GivenUp(ctx context.Context, name string) (bool, error) {
	node, err := n.get(ctx, name)
	if err != nil || node == nil {
		return err == nil, err
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeOutOfService {
			return true, nil
		}
	}
	return false, nil
}

// get returns nil for a node that does not exist.
func (n Nodes) get(ctx context.Context, name string) (*corev1.Node, error) {
	// No resourceVersion is named: the answer is as of now.
	node, err := n.client.Nodes().Get(ctx, name, metav1.GetOptions{})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return node, nil
}
