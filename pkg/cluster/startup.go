package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	storage "k8s.io/client-go/kubernetes/typed/storage/v1"
	"k8s.io/client-go/rest"
)

// Startup takes a taint from nodes once a driver answers there, so that a node which
// joins with the taint gets no pods before it can have volumes.
type Startup struct {
	nodes    core.NodesGetter
	csiNodes storage.CSINodesGetter
	driver   string
	taint    string // its key
}

// NewStartup returns the taint's remover in the cluster that config leads to.
func NewStartup(config *rest.Config, driver, taint string) (Startup, error) {
	nodes, err := core.NewForConfig(config)
	if err != nil {
		return Startup{}, fmt.Errorf("nodes of Kubernetes: %w", err)
	}
	csiNodes, err := storage.NewForConfig(config)
	if err != nil {
		return Startup{}, fmt.Errorf("nodes of Kubernetes: %w", err)
	}
	return Startup{nodes, csiNodes, driver, taint}, nil
}

// Round looks at each node once, and returns from which it took the taint. What is wrong
// with one, such as a webhook that refuses it, does not keep the others waiting.
func (s Startup) Round(ctx context.Context) (ready []string, err error) {
	// "0": what the API server remembers will do, and spares etcd.
	list, err := s.nodes.Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	var errs []error
	for i := range list.Items {
		node := &list.Items[i]
		if !slices.ContainsFunc(node.Spec.Taints, s.ours) {
			continue
		}
		registered, err := s.registered(ctx, node.Name)
		if err == nil && registered {
			if err = s.remove(ctx, node); err == nil {
				ready = append(ready, node.Name)
			}
		}
		if err != nil && !apierrors.IsConflict(err) && !absent(err) {
			errs = append(errs, fmt.Errorf("taint %s of node %s: %w", s.taint, node.Name, err))
			if !errors.As(err, new(apierrors.APIStatus)) {
				break // it was no answer
			}
		}
	}
	return ready, errors.Join(errs...)
}

func (s Startup) ours(t corev1.Taint) bool { return t.Key == s.taint }

// registered reports whether kubelet has the driver of the node.
func (s Startup) registered(ctx context.Context, name string) (bool, error) {
	node, err := s.csiNodes.CSINodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	for _, d := range node.Spec.Drivers {
		if d.Name == s.driver {
			return true, nil
		}
	}
	return false, nil
}

// remove fails with a conflict if the node has changed: another's taint must not be
// taken away, or put back, with ours.
func (s Startup) remove(ctx context.Context, node *corev1.Node) error {
	left := slices.DeleteFunc(slices.Clone(node.Spec.Taints), s.ours)
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": left},
	})
	if err != nil {
		return err
	}
	_, err = s.nodes.Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
