package delta

import (
	"context"
	"testing"
	"time"
)

// spiedFS tells of each Writeback, which returns when it was heard.
type spiedFS struct {
	FS
	heard chan stretch // slot is nil
}

func (s spiedFS) Create(name string) (File, error) {
	f, err := s.FS.Create(name)
	return spiedFile{f, s.heard}, err
}

type spiedFile struct {
	File
	heard chan stretch
}

func (f spiedFile) Writeback(off, n int64) { f.heard <- stretch{off: off, n: n} }

// The log is written back from its begin, without gaps and without a flush; a disk
// that is slow at it holds up no write.
func TestLogIsWrittenBackSoon(t *testing.T) {
	cfg := testConfig(t)
	spied := spiedFS{osFS{}, make(chan stretch)}
	cfg.FS = spied
	cfg.SegmentSize = 8 * writebackStep
	cfg.Quota = 4 * cfg.SegmentSize
	j := mustCreate(t, cfg, testIdentity(), 16*mib)
	const piece = 256 << 10
	for i := range int64(5 * writebackStep / piece) { // nobody hears: no write waits
		check(t, j.Write(context.Background(), i%16*piece, pattern(uint64(i), piece), false))
	}
	first := <-spied.heard
	check(t, j.Write(context.Background(), 0, pattern(1, piece), false))
	rest := <-spied.heard
	if first.off > 2*headerSize || first.n < writebackStep || first.n > writebackStep+2*piece {
		t.Errorf("the first step is %d bytes at %d", first.n, first.off)
	}
	if rest.off != first.off+first.n {
		t.Errorf("%d bytes at %d, then at %d", first.n, first.off, rest.off)
	}
	for limit := time.Now().Add(time.Minute); ; {
		select {
		case next := <-spied.heard:
			if next.off != rest.off+rest.n {
				t.Errorf("%d bytes at %d, then at %d", rest.n, rest.off, next.off)
			}
			rest = next
			continue
		case <-time.After(time.Second):
			if rest.off+rest.n < 4*writebackStep && time.Now().Before(limit) {
				continue // the machine is busy
			}
		}
		break
	}
	if end := rest.off + rest.n; end < 4*writebackStep {
		t.Errorf("of 5 steps written back: the first %d bytes", end)
	}
}
