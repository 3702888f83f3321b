package target

import (
	"context"
	"runtime"
	"testing"
)

// A command that the reader carries out itself holds up nothing when it is held, over
// and over: another goroutine reads on, and the old one goes.
func TestReaderIsRelieved(t *testing.T) {
	const rounds = 20
	d := newFakeDevice()
	held, release := make(chan struct{}), make(chan struct{})
	d.read = func(_ context.Context, off int64) error {
		if off == 0 {
			held <- struct{}{}
			<-release
		}
		return nil
	}
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	var before int
	for round := range rounds {
		for range slowBatch + 1 { // those for workers, and one in the reader's own hands
			i.mustDo(testUnitReady, 0, nil)
		}
		i.send(i.request(cdb10(opRead10, 0, 1), 512, 0), nil)
		<-held
		i.nop(nil)
		i.mustDo(cdb10(opRead10, 8, 1), 512, nil)
		release <- struct{}{}
		if r := i.finish(nil); len(r.data) != 512 {
			t.Fatalf("the held read: %v", r)
		}
		if round == 0 {
			before = runtime.NumGoroutine()
		}
	}
	if after := runtime.NumGoroutine(); after > before+2 {
		t.Errorf("%d goroutines after the first round, %d after the last", before, after)
	}
}
