package driver

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Shown is a board that shows conditions to Prometheus, too: a volume that is not
// served has no figures on its node, and that is when somebody should be woken.
type Shown struct {
	board Board

	mu    sync.Mutex
	fares map[ident.Volume]authority.Fare
}

var (
	_ Board                = (*Shown)(nil)
	_ prometheus.Collector = (*Shown)(nil)
)

// NewShown shows what a board is shown.
func NewShown(board Board) *Shown { return &Shown{board: board} }

// Show implements [Board].
func (s *Shown) Show(ctx context.Context, fares map[ident.Volume]authority.Fare) error {
	s.keep(fares)
	return s.board.Show(ctx, fares)
}

// Forget is for when this process looks at volumes no more.
func (s *Shown) Forget() { s.keep(nil) }

func (s *Shown) keep(fares map[ident.Volume]authority.Fare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fares = fares
}

var shownCondition = prometheus.NewDesc("swiftblock_volume_condition",
	"1 while a volume has the condition, as the controller that leads sees it.", []string{"volume", "condition", "health"}, nil)

// Describe implements [prometheus.Collector].
func (s *Shown) Describe(ch chan<- *prometheus.Desc) { ch <- shownCondition }

// Collect implements [prometheus.Collector].
func (s *Shown) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, fare := range s.fares {
		said := make(map[string]bool)
		for _, c := range fare.Conditions {
			if said[c.Reason] {
				continue // the first said of a reason is shown
			}
			said[c.Reason] = true
			ch <- prometheus.MustNewConstMetric(shownCondition, prometheus.GaugeValue, 1, string(id), c.Reason, c.Severity.String())
		}
	}
}
