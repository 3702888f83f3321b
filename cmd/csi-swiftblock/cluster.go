package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/kube"
	"github.com/swiftblock/csi-swiftblock/pkg/cluster"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// inKubernetes in place of a directory means the authority in Kubernetes.
const inKubernetes = "kubernetes"

// apiTimeout bounds one request to the API server, which may be gone without a word.
const apiTimeout = 30 * time.Second

// Requests per second to the API server, and how many at once: more than the calls
// of Kubernetes' own sidecars, which limit themselves, can ask for.
const (
	apiRate  = 100
	apiBurst = 200
)

// kubernetes leads to the cluster and namespace that we run in, or to those of
// KUBECONFIG.
func kubernetes() (config *rest.Config, namespace string, err error) {
	client := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	config, err = client.ClientConfig()
	if err == nil {
		namespace, _, err = client.Namespace()
	}
	if err != nil {
		return nil, "", fmt.Errorf("no Kubernetes: %w; run in a pod with a service account, or set KUBECONFIG", err)
	}
	config.Timeout, config.QPS, config.Burst = apiTimeout, apiRate, apiBurst
	return rest.AddUserAgent(config, "csi-swiftblock/"+version), namespace, nil
}

// records opens the authority for a session, and returns the vault beside it.
func (f *catalogFlags) records(s *session) (vault keys.Store, err error) {
	if f.authority != inKubernetes {
		records, err := authority.OpenFile(f.authority)
		if err != nil {
			return nil, err
		}
		s.records, s.givenUp = records, records.GivenUp()
		return accounts.Directory(filepath.Join(f.authority, "accounts")), nil
	}
	config, namespace, err := kubernetes()
	if err != nil {
		return nil, err
	}
	if s.records, err = kube.Open(config); err != nil {
		return nil, err
	}
	return cluster.NewVault(config, namespace)
}

// leads runs do whenever this process is the one of several that has to.
type leads func(ctx context.Context, do func(context.Context) error) error

// surroundings are the nodes that volumes may be published to and, where several
// controllers may run, the choice among them by a lease.
func surroundings(s *session, nodes []string, lease, holder string) (driver.Cluster, leads, error) {
	if s.givenUp != nil {
		alone := func(ctx context.Context, do func(context.Context) error) error { return do(ctx) }
		return &standalone{nodes: nodes, givenUp: s.givenUp}, alone, nil
	}
	config, namespace, err := kubernetes()
	if err != nil {
		return nil, nil, err
	}
	members, err := cluster.NewNodes(config)
	if err != nil {
		return nil, nil, err
	}
	return members, func(ctx context.Context, do func(context.Context) error) error {
		return cluster.Lead(ctx, config, cluster.Lease{Namespace: namespace, Name: lease, Holder: holder}, do)
	}, nil
}

// noticeBoard is where people see how volumes fare; nil without Kubernetes.
func noticeBoard(s *session, holder string) (driver.Board, error) {
	if s.givenUp != nil {
		return nil, nil
	}
	config, _, err := kubernetes()
	if err != nil {
		return nil, err
	}
	return kube.NewBoard(config, holder)
}

// admissionPeriod is how long a new node may wait for pods although it is ready.
const admissionPeriod = 5 * time.Second

// admission takes the start-up taint, if there is one, from nodes that are ready.
func admission(s *session, taint string) (func(context.Context), error) {
	if taint == "" {
		return func(context.Context) {}, nil
	}
	if s.givenUp != nil {
		return nil, errors.New("--startup-taint: without Kubernetes there are no taints")
	}
	config, _, err := kubernetes()
	if err != nil {
		return nil, err
	}
	startup, err := cluster.NewStartup(config, driver.Name, taint)
	return func(ctx context.Context) {
		ready, err := startup.Round(ctx)
		if len(ready) > 0 {
			slog.Info("nodes are ready for volumes", "nodes", ready)
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("nodes may wait for pods although they are ready", "error", err)
		}
	}, err
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}
