package driver_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

func TestShown(t *testing.T) {
	seen := &board{}
	s := driver.NewShown(seen)
	twice := authority.Condition{Severity: authority.Inaccessible, Reason: "Ended"}
	err := s.Show(t.Context(), map[ident.Volume]authority.Fare{
		"one": {Conditions: []authority.Condition{twice, twice}},
		"two": {},
	})
	if err != nil || len(seen.fares) != 2 {
		t.Fatalf("the board: %v, %v", seen.fares, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	got, err := registry.Gather() // fails if a condition is there twice
	if err != nil || len(got) != 1 || got[0].GetName() != "swiftblock_volume_condition" || len(got[0].GetMetric()) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range []string{"Ended", "Inaccessible", "one"} { // condition, health, volume
		if l := got[0].GetMetric()[0].GetLabel()[i]; l.GetValue() != want {
			t.Errorf("label %v, want %s", l, want)
		}
	}
	s.Forget()
	if got, err := registry.Gather(); err != nil || len(got) != 0 {
		t.Errorf("who leads no more: %v, %v", got, err)
	}
}
