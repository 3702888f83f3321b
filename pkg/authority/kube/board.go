package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Board shows how volumes fare: in the status of their custom resources, and by an
// event, or now and then by two, whenever a condition comes or goes. What it showed and told
// last is read from the resources, so that another process goes on where this one stops.
type Board struct {
	volumes rest.Interface
	events  typed.EventInterface
	from    corev1.EventSource
	figures *rate.Limiter // changes of figures alone
}

// NewBoard returns the board of the cluster that config leads to; holder names this
// process in the events.
func NewBoard(config *rest.Config, holder string) (*Board, error) {
	volumes, err := client(config)
	if err != nil {
		return nil, err
	}
	core, err := typed.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("events of Kubernetes: %w", err)
	}
	return &Board{
		volumes: volumes,
		// Where the events of objects without a namespace are.
		events:  core.Events(metav1.NamespaceDefault),
		from:    corev1.EventSource{Component: "csi-swiftblock", Host: holder},
		figures: rate.NewLimiter(figuresRate, figuresRate),
	}, nil
}

// figuresRate bounds how many volumes per second get new figures: etcd stores each
// for a while. Conditions are shown at once.
const figuresRate = 10

// volume is what the board reads of a custom resource.
type volume struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Status   Status            `json:"status"`
}

// Show brings the status of those volumes up to date that are in fares. What is refused
// for one does not keep back the others.
func (b *Board) Show(ctx context.Context, fares map[ident.Volume]authority.Fare) error {
	var errs []error
	for next := ""; ; {
		var page struct {
			Metadata metav1.ListMeta `json:"metadata"`
			Items    []volume        `json:"items"`
		}
		request := b.volumes.Get().Resource(volumesResource).Param("limit", strconv.Itoa(maxPage))
		if next != "" {
			request.Param("continue", next)
		}
		if err := send(ctx, request, &page); err != nil {
			return errors.Join(append(errs, fmt.Errorf("list %s: %w", volumesResource, err))...)
		}
		for i := range page.Items {
			v := &page.Items[i]
			if fare, given := fares[ident.Volume(v.Metadata.Name)]; given {
				if err := b.show(ctx, v, fare); err != nil {
					errs = append(errs, fmt.Errorf("show how volume %s fares: %w", v.Metadata.Name, err))
					if !errors.As(err, new(apierrors.APIStatus)) {
						return errors.Join(errs...) // it was no answer
					}
				}
			}
		}
		if next = page.Metadata.Continue; next == "" {
			return errors.Join(errs...)
		}
	}
}

// show stores what is owed with the status before it tells anything, and takes off what was
// told after that: whatever ends in between, each event is told at least once.
func (b *Board) show(ctx context.Context, v *volume, fare authority.Fare) error {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	status := v.Status.next(fare, now)
	owed := notices(v.Status, status)
	for _, n := range owed {
		status.Untold = append(status.Untold, n.condition)
	}
	if !equality.Semantic.DeepEqual(status, v.Status) && (status.urgent(v.Status) || b.figures.Allow()) {
		if err := b.patch(ctx, v, status.whole()); err != nil {
			return gone(err)
		}
	}
	var errs []error
	var untold []string
	for _, n := range owed {
		if err := b.tell(ctx, v, n, now); err != nil {
			errs = append(errs, fmt.Errorf("event %s: %w", n.reason, err))
			untold = append(untold, n.condition)
			if !errors.As(err, new(apierrors.APIStatus)) {
				return errors.Join(errs...) // it was no answer
			}
		}
	}
	if len(untold) < len(owed) {
		errs = append(errs, gone(b.patch(ctx, v, map[string]any{"untold": untold})))
	}
	return errors.Join(errs...)
}

// patch changes fields of the volume's status.
func (b *Board) patch(ctx context.Context, v *volume, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": v.Metadata.UID}, // of this volume, not of one made anew
		"status":   status,
	})
	if err != nil {
		return err
	}
	// A patch without a resourceVersion: it takes no part in the record's
	// compare-and-swap, which at worst has to be repeated after it.
	return b.volumes.Patch(types.MergePatchType).Resource(volumesResource).Name(v.Metadata.Name).
		SubResource("status").Body(patch).Do(ctx).Error()
}

// gone makes nothing of the error that the volume was deleted meanwhile.
func gone(err error) error {
	if absent(err) {
		return nil
	}
	return err
}

// healthy is what Status.Health says of a volume without conditions.
const healthy = "Good"

// next is the status after a look at the volume.
func (s Status) next(fare authority.Fare, now metav1.Time) Status {
	next := Status{Health: healthy, Dirty: s.Dirty, DirtyBytes: s.DirtyBytes, Published: s.Published}
	if f := fare.Figures; f != nil {
		next.DirtyBytes = f.Dirty
		next.Dirty = resource.NewQuantity(f.Dirty, resource.BinarySI).String()
		if !f.Published.IsZero() {
			next.Published = &metav1.Time{Time: f.Published.Truncate(time.Second)}
		}
	}
	worst := authority.Severity(0)
	for _, c := range fare.Conditions {
		worst = max(worst, c.Severity)
		shown := metav1.Condition{
			Type: c.Reason, Status: metav1.ConditionTrue, Reason: c.Severity.String(),
			Message: told(c), LastTransitionTime: now,
		}
		if next.shows(c.Reason) {
			continue // the first said of a reason is shown
		}
		if i := slices.IndexFunc(s.Conditions, func(old metav1.Condition) bool { return old.Type == c.Reason }); i >= 0 {
			shown.LastTransitionTime = s.Conditions[i].LastTransitionTime
		}
		next.Conditions = append(next.Conditions, shown)
	}
	if worst > 0 {
		next.Health = worst.String()
	}
	slices.SortFunc(next.Conditions, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	return next
}

// maxMessage is the longest message that an event may have, in bytes.
const maxMessage = 1024

// told is what a condition says, with what to do, which is never cut off.
func told(c authority.Condition) string {
	if c.Remedy == "" {
		return cut(c.Message, maxMessage)
	}
	remedy := ". What to do: " + c.Remedy
	return cut(c.Message, maxMessage-len(remedy)) + remedy
}

// cut returns the first n bytes of a text, without a part of a character at the end.
func cut(text string, n int) string {
	return strings.ToValidUTF8(text[:min(len(text), max(0, n))], "")
}

// whole is the status with every field, so that a patch removes what is gone.
func (s Status) whole() map[string]any {
	return map[string]any{
		"health": s.Health, "dirty": s.Dirty, "dirtyBytes": s.DirtyBytes, "published": s.Published,
		"conditions": s.Conditions, "untold": s.Untold,
	}
}

// urgent reports whether more than figures and words has changed.
func (s Status) urgent(before Status) bool {
	same := func(a, b metav1.Condition) bool { return a.Type == b.Type }
	return s.Health != before.Health || !slices.Equal(s.Untold, before.Untold) ||
		!slices.EqualFunc(s.Conditions, before.Conditions, same)
}

// notice is an event about a condition.
type notice struct{ condition, kind, reason, message string }

// notices are what is to be told of the conditions that came and of those that went, and
// of those that are untold since before, in the order of their types.
func notices(before, after Status) (owed []notice) {
	for _, c := range after.Conditions {
		if !before.shows(c.Type) || slices.Contains(before.Untold, c.Type) {
			owed = append(owed, notice{c.Type, corev1.EventTypeWarning, c.Type, c.Message})
		}
	}
	known := slices.Clone(before.Untold)
	for _, c := range before.Conditions {
		known = append(known, c.Type)
	}
	slices.Sort(known)
	for _, condition := range slices.Compact(known) {
		if !after.shows(condition) {
			owed = append(owed, notice{condition, corev1.EventTypeNormal, "Passed", condition + " has passed"})
		}
	}
	slices.SortFunc(owed, func(a, b notice) int { return cmp.Compare(a.condition, b.condition) })
	return owed
}

func (s Status) shows(condition string) bool {
	return slices.ContainsFunc(s.Conditions, func(c metav1.Condition) bool { return c.Type == condition })
}

func (b *Board) tell(ctx context.Context, v *volume, n notice, now metav1.Time) error {
	_, err := b.events.Create(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: v.Metadata.Name + "."},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: groupVersion.String(), Kind: volumesKind, Name: v.Metadata.Name, UID: v.Metadata.UID,
		},
		Type: n.kind, Reason: n.reason, Message: n.message, Source: b.from,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, metav1.CreateOptions{})
	return err
}
