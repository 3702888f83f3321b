package kube_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/kube"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// audience is a cluster with one volume, as far as a board sees it.
type audience struct {
	*testing.T
	url string
	id  ident.Volume

	mu     sync.Mutex
	status map[string]any
	told   []string
	fails  func(kind, reason string) int // HTTP status of an event or, kind "", of a status; 0: none
}

// gone in place of a status: the connection ends.
const gone = -1

func newAudience(t *testing.T) *audience {
	a := &audience{T: t, id: ident.NewVolume(), status: map[string]any{}}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func (a *audience) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var sent struct {
		corev1.Event
		Status map[string]any
	}
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			a.Error(err)
		}
	}
	if r.Method != http.MethodGet && a.fails != nil {
		switch code := a.fails(sent.Type, sent.Reason); code {
		case 0:
		case gone:
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(code)
			return
		}
	}
	volume := map[string]any{"metadata": map[string]any{"name": a.id, "uid": "u"}, "status": a.status}
	var answer any
	switch r.Method {
	case http.MethodGet:
		answer = map[string]any{"items": []any{volume}}
	case http.MethodPatch:
		maps.Copy(a.status, sent.Status)
		answer = volume
	case http.MethodPost:
		a.told = append(a.told, sent.Type+" "+sent.Reason+": "+sent.Message)
		answer = sent.Event
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		a.Error(err)
	}
}

// show is a round of a leader that has just begun. It returns what was told.
func (a *audience) show(conditions ...authority.Condition) (told []string, err error) {
	a.Helper()
	config := &rest.Config{Host: a.url, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}}
	board, err := kube.NewBoard(config, "test")
	if err != nil {
		a.Fatal(err)
	}
	err = board.Show(a.Context(), map[ident.Volume]authority.Fare{a.id: {Conditions: conditions}})
	a.mu.Lock()
	defer a.mu.Unlock()
	told, a.told = a.told, nil
	slices.Sort(told)
	return told, err
}

// shown are the conditions in the volume's status.
func (a *audience) shown() (types string) {
	a.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var status kube.Status
	text, err := json.Marshal(a.status)
	if err == nil {
		err = json.Unmarshal(text, &status)
	}
	if err != nil {
		a.Fatal(err)
	}
	for _, c := range status.Conditions {
		types += c.Type + " "
	}
	return types + status.Health
}

var damaged = authority.Condition{Severity: authority.DataLoss, Reason: "DataDamaged", Message: "an object is missing", Remedy: "check"}

const (
	awayCame    = "Warning SwiftUnreachable: no answer. What to do: bring it back"
	damagedCame = "Warning DataDamaged: an object is missing. What to do: check"
	awayWent    = "Normal Passed: SwiftUnreachable has passed"
	damagedWent = "Normal Passed: DataDamaged has passed"
)

// An event that Kubernetes refuses is told when it takes it, by whoever leads then. It keeps
// back neither another event nor the status.
func TestRefusedEventsAreToldLater(t *testing.T) {
	a := newAudience(t)
	both := []authority.Condition{away, damaged}
	refused := func(only string) func(string, string) int {
		return func(kind, reason string) int {
			if kind != "" && strings.HasPrefix(kind+" "+reason, only) {
				return http.StatusInternalServerError
			}
			return 0
		}
	}
	for i, round := range []struct {
		refused    string // the beginning of its kind and reason; "-": none
		conditions []authority.Condition
		told       string
		shown      string
	}{
		{"Warning DataDamaged", both, awayCame, "DataDamaged SwiftUnreachable DataLoss"},
		{"Warning DataDamaged", both, "", "DataDamaged SwiftUnreachable DataLoss"},
		{"-", both, damagedCame, "DataDamaged SwiftUnreachable DataLoss"},
		{"-", both, "", "DataDamaged SwiftUnreachable DataLoss"},
		{"Normal", nil, "", "Good"},
		{"Normal", nil, "", "Good"},
		{"-", nil, damagedWent + "\n" + awayWent, "Good"},
		{"-", nil, "", "Good"},
		// Come and gone while events were refused.
		{"Warning", both, "", "DataDamaged SwiftUnreachable DataLoss"},
		{"-", both[1:], damagedCame + "\n" + awayWent, "DataDamaged DataLoss"},
		// Gone and come.
		{"Normal", nil, "", "Good"},
		{"-", both[1:], damagedCame, "DataDamaged DataLoss"},
		{"-", both[1:], "", "DataDamaged DataLoss"},
	} {
		a.fails = refused(round.refused)
		told, err := a.show(round.conditions...)
		want := slices.Sorted(strings.SplitSeq(round.told, "\n"))
		if round.told == "" {
			want = nil
		}
		if shown := a.shown(); !slices.Equal(told, want) || shown != round.shown {
			t.Errorf("round %d: told %q, shown %s", i, told, shown)
		}
		if (err != nil) != (round.refused != "-") || err != nil && !strings.Contains(err.Error(), string(a.id)) {
			t.Errorf("round %d: error %v", i, err)
		}
	}
}

// A leader that ends, or finds no API server any more, between any two of its requests leaves
// no event untold.
func TestEventsSurviveTheLeader(t *testing.T) {
	ended := true
	for after := 0; ended; after++ {
		a := newAudience(t)
		ended = false
		requests := 0
		a.fails = func(string, string) int {
			if requests++; requests > after {
				ended = true
				return gone
			}
			return 0
		}
		told, err := a.show(away, damaged)
		if (err != nil) != ended {
			t.Errorf("after %d requests: error %v", after, err)
		}
		a.fails = nil
		more, err := a.show(away, damaged)
		if err != nil {
			t.Errorf("after %d requests: %v", after, err)
		}
		for _, want := range []string{awayCame, damagedCame} {
			if !slices.Contains(slices.Concat(told, more), want) {
				t.Errorf("after %d requests: told %q, then %q; want %q", after, told, more, want)
			}
		}
		if again, err := a.show(away, damaged); err != nil || again != nil {
			t.Errorf("after %d requests: told again: %q, %v", after, again, err)
		}
	}
}

// What cannot be shown is not told, either: it would be told anew each minute.
func TestEventsOfARefusedStatus(t *testing.T) {
	a := newAudience(t)
	a.fails = func(kind, _ string) int {
		if kind == "" {
			return http.StatusUnprocessableEntity
		}
		return 0
	}
	if told, err := a.show(away); err == nil || told != nil {
		t.Errorf("told %q, %v", told, err)
	}
	a.fails = nil
	if told, err := a.show(away); err != nil || !slices.Equal(told, []string{awayCame}) {
		t.Errorf("then told %q, %v", told, err)
	}
}
