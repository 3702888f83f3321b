package kube_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/kube"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/test/kube/apiserver"
)

// onBoard is a cluster with a volume, and what people see of it.
type onBoard struct {
	*testing.T
	server  *apiserver.Server
	volumes authority.Table[authority.Volume]
	board   *kube.Board
	core    *typed.CoreV1Client
	id      ident.Volume
	mute    atomic.Bool // no event is taken from the board
}

func newOnBoard(t *testing.T) *onBoard {
	server := start(t)
	b := &onBoard{T: t, server: server, volumes: open(t, server.Config()).Volumes(), id: ident.NewVolume()}
	b.another()
	var err error
	if b.core, err = typed.NewForConfig(server.Config()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.volumes.Create(t.Context(), string(b.id), authority.Volume{ID: b.id, Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	return b
}

// another is the board as the next leader opens it.
func (b *onBoard) another() {
	b.Helper()
	config := b.server.Config()
	config.Wrap(func(server http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost && b.mute.Load() {
				return nil, errors.New("nobody listens")
			}
			return server.RoundTrip(r)
		})
	})
	var err error
	if b.board, err = kube.NewBoard(config, "test"); err != nil {
		b.Fatal(err)
	}
}

func (b *onBoard) show(f authority.Fare) {
	b.Helper()
	if err := b.board.Show(b.Context(), map[ident.Volume]authority.Fare{b.id: f}); err != nil {
		b.Fatal(err)
	}
}

// status is that of the volume's resource, with its version.
func (b *onBoard) status() (status kube.Status, version string) {
	b.Helper()
	body, err := b.core.RESTClient().Get().AbsPath("/apis/swiftblock.dev/v1alpha1/swiftblockvolumes", string(b.id)).Do(b.Context()).Raw()
	var o struct {
		Metadata metav1.ObjectMeta
		Status   kube.Status
	}
	if err == nil {
		err = json.Unmarshal(body, &o)
	}
	if err != nil {
		b.Fatal(err)
	}
	return o.Status, o.Metadata.ResourceVersion
}

// events are those about the volume, "type reason: message", as kubectl describe finds
// them, in any order.
func (b *onBoard) events() (said []string) {
	b.Helper()
	list, err := b.core.Events("").List(b.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + string(b.id)})
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range list.Items {
		if e.InvolvedObject.Kind != "SwiftblockVolume" || e.InvolvedObject.UID == "" || e.LastTimestamp.IsZero() || e.Source.Component != "csi-swiftblock" {
			b.Errorf("an event that nobody finds: %+v", e)
		}
		said = append(said, e.Type+" "+e.Reason+": "+e.Message)
	}
	slices.Sort(said)
	return said
}

var away = authority.Condition{Severity: authority.Degraded, Reason: "SwiftUnreachable", Message: "no answer", Remedy: "bring it back"}

// A condition comes, stays and passes: its event comes once, whoever leads.
func TestBoard(t *testing.T) {
	b := newOnBoard(t)
	published := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b.show(authority.Fare{Figures: &authority.Figures{Dirty: 3 << 20, Published: published}})
	s, _ := b.status()
	if s.Health != "Good" || s.Dirty != "3Mi" || s.DirtyBytes != 3<<20 || s.Published == nil || !s.Published.Equal(&metav1.Time{Time: published}) || len(s.Conditions) > 0 {
		t.Errorf("all is well: %+v", s)
	}
	damaged := authority.Condition{Severity: authority.DataLoss, Reason: "DataDamaged", Message: strings.Repeat("ü", 2000), Remedy: "check"}
	b.show(authority.Fare{Conditions: []authority.Condition{away, damaged}})
	first, _ := b.status()
	if first.Health != "DataLoss" || len(first.Conditions) != 2 || first.Dirty != "3Mi" {
		t.Errorf("two conditions, and figures that nobody knows: %+v", first)
	}
	said := b.events()
	if len(said) != 2 || said[1] != "Warning SwiftUnreachable: no answer. What to do: bring it back" || !strings.HasSuffix(said[0], "What to do: check") {
		t.Errorf("events: %q", said)
	}
	b.another()
	b.show(authority.Fare{Conditions: []authority.Condition{damaged, away}})
	again, _ := b.status()
	if len(b.events()) != 2 || !again.Conditions[1].LastTransitionTime.Equal(&first.Conditions[1].LastTransitionTime) {
		t.Errorf("told again: %q, %+v", b.events(), again)
	}
	b.show(authority.Fare{Conditions: []authority.Condition{damaged}, Figures: &authority.Figures{}})
	if s, _ := b.status(); s.Health != "DataLoss" || len(s.Conditions) != 1 || s.Dirty != "0" || s.DirtyBytes != 0 || s.Published == nil {
		t.Errorf("one has passed: %+v", s)
	}
	if said := b.events(); len(said) != 3 || said[0] != "Normal Passed: SwiftUnreachable has passed" {
		t.Errorf("events: %q", said)
	}
	b.mute.Store(true)
	if err := b.board.Show(t.Context(), map[ident.Volume]authority.Fare{b.id: {}}); err == nil {
		t.Error("an event that was not told: no error")
	}
	if s, _ := b.status(); s.Health != "Good" || len(s.Conditions) > 0 || !slices.Equal(s.Untold, []string{"DataDamaged"}) {
		t.Errorf("the other has passed, and nobody listens: %+v", s)
	}
	b.mute.Store(false)
	b.another()
	b.show(authority.Fare{})
	if said := b.events(); len(said) != 4 || said[0] != "Normal Passed: DataDamaged has passed" {
		t.Errorf("events: %q", said)
	}
	if s, _ := b.status(); len(s.Untold) > 0 {
		t.Errorf("all is told: %+v", s)
	}
}

// What is shown neither changes the record nor is changed by it; and what has not
// changed is not written.
func TestBoardBesideRecord(t *testing.T) {
	ctx, b := t.Context(), newOnBoard(t)
	fare := authority.Fare{Conditions: []authority.Condition{away}, Figures: &authority.Figures{Dirty: 1}}
	b.show(fare)
	v, version, err := b.volumes.Get(ctx, string(b.id))
	if err != nil || v.Size != 1<<30 {
		t.Fatalf("the record: %+v, %v", v, err)
	}
	v.Size *= 2
	if _, err := b.volumes.Update(ctx, string(b.id), v, version); err != nil {
		t.Fatal(err)
	}
	s, before := b.status()
	if len(s.Conditions) != 1 {
		t.Errorf("the record's change took the status away: %+v", s)
	}
	b.show(fare)
	if _, after := b.status(); after != before {
		t.Error("the same was written again")
	}
	// A volume that is gone is nobody's trouble.
	_, version, err = b.volumes.Get(ctx, string(b.id))
	if err == nil {
		err = b.volumes.Delete(ctx, string(b.id), version)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.show(authority.Fare{})
	b.server.Stop()
	if err := b.board.Show(ctx, nil); err == nil {
		t.Error("Show without an API server: no error")
	}
}

// What kubectl get prints of a volume.
func TestColumns(t *testing.T) {
	b := newOnBoard(t)
	b.show(authority.Fare{Figures: &authority.Figures{Dirty: 5 << 10, Published: time.Now().Add(-time.Minute)}, Conditions: []authority.Condition{away}})
	var table metav1.Table
	body, err := b.core.RESTClient().Get().AbsPath("/apis/swiftblock.dev/v1alpha1/swiftblockvolumes").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(t.Context()).Raw()
	if err == nil {
		err = json.Unmarshal(body, &table)
	}
	if err != nil || len(table.Rows) != 1 {
		t.Fatalf("%v: %.300s", err, body)
	}
	cells := map[string]string{}
	for i, c := range table.ColumnDefinitions {
		if c.Priority == 0 {
			cells[c.Name] = fmt.Sprint(table.Rows[0].Cells[i])
		}
	}
	for column, want := range map[string]string{"Size": "1Gi", "Dirty": "5Ki", "Health": "Degraded"} {
		if cells[column] != want {
			t.Errorf("%s is %q, want %q", column, cells[column], want)
		}
	}
	if age := cells["Published"]; age != "60s" && age != "61s" && age != "62s" && age != "63s" {
		t.Errorf("published %q ago", age)
	}
	for _, column := range []string{"Name", "Node", "State", "Epoch", "Open", "Age"} {
		if _, has := cells[column]; !has {
			t.Errorf("no column %s in %v", column, cells)
		}
	}
}
