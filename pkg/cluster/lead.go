package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The times of the lease: those of Kubernetes' own controllers. A leader that
// cannot renew it stops before anybody else begins.
const (
	leaseDuration = 15 * time.Second
	leaseDeadline = 10 * time.Second
	leaseRetry    = 2 * time.Second
)

// Lease is what one of several processes holds at a time.
type Lease struct {
	Namespace, Name string
	Holder          string // this process, such as the pod's name
}

// Lead runs do whenever this process leads, until ctx ends; do's context ends when
// it leads no more. To lead only spares work: nothing may rely on being alone.
func Lead(ctx context.Context, config *rest.Config, lease Lease, do func(ctx context.Context) error) error {
	client, err := typed.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("lease %s: %w", lease.Name, err)
	}
	var working sync.Mutex // one do after the other
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: lease.Namespace, Name: lease.Name},
			Client:     client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: lease.Holder},
		},
		Name:            lease.Name,
		LeaseDuration:   leaseDuration,
		RenewDeadline:   leaseDeadline,
		RetryPeriod:     leaseRetry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				working.Lock()
				defer working.Unlock()
				if leading.Err() != nil {
					return
				}
				if err := do(leading); err != nil && leading.Err() == nil {
					stop(err)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("lease %s: %w", lease.Name, err)
	}
	for ctx.Err() == nil {
		elector.Run(ctx) // returns when it leads no more
	}
	working.Lock()
	defer working.Unlock()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
