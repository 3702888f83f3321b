// Package report is what the benchmarks have in common: medians, the table of
// figures against their goals, the file they are kept in, and the refusal to
// measure on a machine that is busy.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Row is one figure.
type Row struct {
	What string  `json:"what"`
	Unit string  `json:"unit"`
	Ours float64 `json:"ours"`
	// Peer is 0 where the goal is not relative to a peer.
	Peer     float64 `json:"peer,omitempty"`
	PeerName string  `json:"peer_name,omitempty"`
	Goal     Goal    `json:"goal"`
	// All runs, in the order in which they were made, by who was measured.
	Runs map[string][]float64 `json:"runs,omitempty"`
}

// Goal bounds a figure from one side.
type Goal struct {
	Relative bool    `json:"relative"` // of the ratio ours ÷ peer, not of ours
	AtLeast  float64 `json:"at_least,omitempty"`
	AtMost   float64 `json:"at_most,omitempty"`
	Zero     bool    `json:"zero,omitempty"` // the figure must be 0
}

// RatioAtLeast is the goal that ours ÷ peer is at least x.
func RatioAtLeast(x float64) Goal { return Goal{Relative: true, AtLeast: x} }

// RatioAtMost is the goal that ours ÷ peer is at most x.
func RatioAtMost(x float64) Goal { return Goal{Relative: true, AtMost: x} }

// AtMost is the goal that the figure is at most x.
func AtMost(x float64) Goal { return Goal{AtMost: x} }

func (g Goal) String() string {
	sign, bound := "≥", g.AtLeast
	switch {
	case g.AtMost > 0:
		sign, bound = "≤", g.AtMost
	case g.Zero:
		sign = "="
	}
	text := sign + " " + strconv.FormatFloat(bound, 'f', -1, 64)
	if g.Relative {
		text += " ×"
	}
	return text
}

// Ratio is ours ÷ peer, 0 without a peer.
func (r *Row) Ratio() float64 {
	if r.Peer == 0 {
		return 0
	}
	return r.Ours / r.Peer
}

// OK reports whether the goal is reached.
func (r *Row) OK() bool {
	v := r.Ours
	if r.Goal.Relative {
		v = r.Ratio()
	}
	return (v == 0 || !r.Goal.Zero) && v >= r.Goal.AtLeast && (r.Goal.AtMost == 0 || v <= r.Goal.AtMost)
}

// Result is one run of a benchmark.
type Result struct {
	Benchmark  string    `json:"benchmark"`
	Began      time.Time `json:"began"`
	CPUs       int       `json:"cpus"`
	Kernel     string    `json:"kernel"`
	Go         string    `json:"go"`
	LoadBefore float64   `json:"load_before"` // of the last minute
	LoadAfter  float64   `json:"load_after"`
	Notes      []string  `json:"notes,omitempty"`
	Rows       []Row     `json:"rows"`
}

// Begin starts a run. It refuses a machine whose load average of the last minute
// is over half its CPUs, unless forced: figures of such a machine say nothing.
func Begin(benchmark string, force bool) (*Result, error) {
	load, err := loadAverage()
	if err != nil {
		return nil, err
	}
	limit := float64(runtime.NumCPU()) / 2
	fmt.Fprintf(os.Stderr, "load average %.2f, %d CPUs\n", load, runtime.NumCPU())
	if load > limit && !force {
		return nil, fmt.Errorf("load average %.2f is over %.2f: measure on a quiet machine, or force it", load, limit)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, err
	}
	return &Result{
		Benchmark: benchmark, Began: time.Now().UTC().Truncate(time.Second), LoadBefore: load,
		CPUs: runtime.NumCPU(), Kernel: strings.TrimSpace(string(kernel)), Go: runtime.Version(),
	}, nil
}

// End notes the load at the end, prints the table to w and keeps the result in
// file, unless that is "".
func (r *Result) End(w io.Writer, file string) error {
	var err error
	if r.LoadAfter, err = loadAverage(); err != nil {
		return err
	}
	if err := r.print(w); err != nil || file == "" {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// print writes the table, in Markdown.
func (r *Result) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s: load average %.2f before, %.2f after; %d CPUs, Linux %s\n\n",
		r.Benchmark, r.Began.Format(time.RFC3339), r.LoadBefore, r.LoadAfter, r.CPUs, r.Kernel)
	b.WriteString("| what | ours | peer | ratio | goal | ok or short |\n|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		peer, ratio, verdict := "", "", "ok"
		if row.Peer != 0 {
			peer = fmt.Sprintf("%s %s (%s)", number(row.Peer), row.Unit, row.PeerName)
			ratio = fmt.Sprintf("%.2f ×", row.Ratio())
		}
		if !row.OK() {
			verdict = "short"
		}
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s | %s | %s |\n",
			row.What, number(row.Ours), row.Unit, peer, ratio, row.Goal, verdict)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// number writes a figure with about three digits.
func number(v float64) string {
	decimals := 0
	switch {
	case v == math.Trunc(v):
	case v < 10:
		decimals = 2
	case v < 100:
		decimals = 1
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// Median returns the middle one of values, of which there is at least one.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// loadAverage is that of the last minute.
func loadAverage() (float64, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	return strconv.ParseFloat(first, 64)
}
