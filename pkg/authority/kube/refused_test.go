package kube_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/kube"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// What is refused for one volume hides no other.
func TestBoardBesideAVolumeThatIsRefused(t *testing.T) {
	ids := []ident.Volume{ident.NewVolume(), ident.NewVolume()}
	var mu sync.Mutex
	var shown []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = map[string]any{}
		switch {
		case r.Method == http.MethodGet:
			var items []any
			for _, id := range ids {
				items = append(items, map[string]any{"metadata": map[string]any{"name": id, "uid": "u"}})
			}
			answer = map[string]any{"items": items}
		case strings.Contains(r.URL.Path, string(ids[0])):
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		default:
			mu.Lock()
			shown = append(shown, r.Method+" "+r.URL.Path)
			mu.Unlock()
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	board, err := kube.NewBoard(&rest.Config{Host: api.URL}, "test")
	if err != nil {
		t.Fatal(err)
	}
	fares := map[ident.Volume]authority.Fare{}
	for _, id := range ids {
		fares[id] = authority.Fare{Conditions: []authority.Condition{away}}
	}
	if err := board.Show(t.Context(), fares); err == nil || !strings.Contains(err.Error(), string(ids[0])) {
		t.Errorf("error %v, want it to name the volume", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.ContainsFunc(shown, func(s string) bool { return strings.HasPrefix(s, "PATCH ") && strings.Contains(s, string(ids[1])) }) {
		t.Errorf("shown: %v", shown)
	}
}
