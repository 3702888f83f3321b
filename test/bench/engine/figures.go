package main

import (
	"context"
	"os/exec"
	"strings"

	"github.com/swiftblock/csi-swiftblock/test/bench/report"
)

// rounds are the measurements of one side, in the order in which they were made.
type rounds []float64

// times returns r in a unit of which x are one.
func (r rounds) times(x float64) (list rounds) {
	for _, y := range r {
		list = append(list, y*x)
	}
	return list
}

func ratioAtLeast(x float64) report.Goal { return report.Goal{Relative: true, AtLeast: x} }
func ratioAtMost(x float64) report.Goal  { return report.Goal{Relative: true, AtMost: x} }
func atMost(x float64) report.Goal       { return report.Goal{AtMost: x} }

// compare enters a figure whose sides took turns.
func (b *bench) compare(what, unit string, ours rounds, peerName string, peer rounds, g report.Goal) {
	b.result.Rows = append(b.result.Rows, report.Row{
		What: what, Unit: unit, Goal: g,
		Ours: report.Median(ours), Peer: report.Median(peer), PeerName: peerName,
		Runs: map[string][]float64{"ours": ours, peerName: peer},
	})
}

// count enters a figure that has no peer, of one exact round or of several.
func (b *bench) count(what, unit string, g report.Goal, ours ...float64) {
	row := report.Row{What: what, Unit: unit, Goal: g, Ours: report.Median(ours)}
	if len(ours) > 1 {
		row.Runs = map[string][]float64{"ours": ours}
	}
	b.result.Rows = append(b.result.Rows, row)
}

// commit names the tree that is measured.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
