package attach

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/gather"
)

// gathered is what the export process shows.
func (n *node) gathered() map[string]float64 {
	n.t.Helper()
	return n.gatheredFrom(n.exports)
}

// gatheredFrom returns counters and gauges, and counts of histograms, by name without
// the volume, and other labels.
func (n *node) gatheredFrom(c prometheus.Collector) map[string]float64 {
	n.t.Helper()
	values := map[string]float64{}
	for name, value := range gather.Values(n.t, c) {
		var words []string
		for _, word := range strings.Fields(strings.TrimPrefix(name, "swiftblock_")) {
			if v, err := ident.ParseVolume(word); err != nil {
				words = append(words, word)
			} else if v != n.id {
				n.t.Errorf("of another volume: %s", name)
			}
		}
		values[strings.Join(words, " ")] = value
	}
	return values
}

func TestMetrics(t *testing.T) {
	n := newNode(t)
	if got := n.gathered(); len(got) > 0 {
		t.Errorf("before any attach: %v", got)
	}
	n.attach()
	device := n.device()
	n.write(7)
	n.expect(7)
	if err := device.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := device.Discard(t.Context(), 1<<20, 4096); err != nil {
		t.Fatal(err)
	}
	if err := device.WriteZeroes(t.Context(), 2<<20, 4096, false); err != nil {
		t.Fatal(err)
	}
	got := n.gathered()
	for name, atLeast := range map[string]float64{
		"volume_command_duration_seconds write":   1,
		"volume_command_duration_seconds read":    1,
		"volume_command_duration_seconds flush":   1,
		"volume_command_duration_seconds discard": 1,
		"volume_command_duration_seconds zero":    1,
		"volume_dirty_bytes":                      512,
		"volume_journal_records_total":            3,
		"volume_journal_syncs_total":              1,
		"volume_journal_used_bytes":               4096,
		"volume_journal_quota_bytes":              512 << 20,
	} {
		if got[name] < atLeast {
			t.Errorf("%s is %v, want at least %v", name, got[name], atLeast)
		}
	}
	if got["volume_publication_failing"] != 0 || got["volume_damaged"] != 0 || got["volume_uploaded_bytes_total"] != 0 {
		t.Errorf("%v", got)
	}
	allocations := testing.AllocsPerRun(100, func() {
		meter := device.(lun).meters
		observe(meter.read, time.Now())
	})
	if allocations != 0 {
		t.Errorf("%v allocations for a command", allocations)
	}
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	for name := range n.gathered() {
		if strings.HasPrefix(name, "volume_") {
			t.Errorf("%s of a volume that is not here any more", name)
		}
	}
}
