// Command engine measures the block engine against what it must beat, and prints
// a Markdown table: what, ours, the peer, the ratio, the goal, ok or short.
//
//	go run ./test/bench/engine [-quick] [-force] [-only name] [-dir d] [-json file] [-profile file]
//
// Ours and the peer take turns within one run, on the same disk and the same
// store, at least five times; figures are medians of these rounds. Counted figures
// (requests, bytes) are exact and measured once. Nothing is stubbed: the peers are
// system calls, requests of the same client, and curl.
//
// Package rig says which stores it measures on.
package main

import "github.com/swiftblock/csi-swiftblock/test/bench/rig"

// figures are measured in this order.
var figures = []rig.Figure{
	{Name: "writes", Measure: on(flushedWrites)},
	{Name: "records", Measure: on(unflushedWrites)},
	{Name: "seals", Measure: on(seals)},
	{Name: "snapshots", Measure: on(emptySnapshots)},
	{Name: "clones", Measure: on(clones)},
	{Name: "restores", Measure: on(restores)},
	{Name: "uploads", Measure: on(uploads)},
	{Name: "reads", Measure: on(sequentialReads)},
	{Name: "tables", Measure: on(tableMemory)},
	{Name: "recovery", Measure: on(recovery)},
}

func main() { rig.Main("engine", figures, attachChild) }

// bench is one run.
type bench struct{ *rig.Bench }

// on lets a figure be measured with what bench adds to a rig.
func on(measure func(*bench) error) func(*rig.Bench) error {
	return func(r *rig.Bench) error { return measure(&bench{r}) }
}
