package delta

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// slowFS lets a test hold back reads and prewrites of segments.
type slowFS struct {
	FS
	hold   chan struct{} // reads wait until it is closed; nil: they do not
	zeroed chan error    // each prewrite waits for its outcome here; nil: they do not
	begun  chan struct{} // gets one of each that does
}

func (s *slowFS) Create(name string) (File, error) {
	f, err := s.FS.Create(name)
	return slowFile{f, s}, err
}

type slowFile struct {
	File
	fs *slowFS
}

func (f slowFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.hold != nil {
		<-f.fs.hold
	}
	return f.File.ReadAt(p, off)
}

func (f slowFile) ZeroAt(off, n int64) error {
	if f.fs.zeroed != nil {
		f.fs.begun <- struct{}{}
		return <-f.fs.zeroed
	}
	return f.File.ZeroAt(off, n)
}

// A file that is being prewritten is synced by two. The file system tells only
// one of them that it lost pages, but both must know.
func TestFailedPrewriteFailsTheFlush(t *testing.T) {
	slow := &slowFS{FS: osFS{}, zeroed: make(chan error), begun: make(chan struct{}, 9)}
	cfg := testConfig(t)
	cfg.FS = slow
	cfg.SegmentSize = 4 * prewriteChunk
	j := mustCreate(t, cfg, testIdentity(), mib)
	slow.zeroed <- nil // room for records in front of the next step
	for range 2 {
		<-slow.begun // the second is that next step
	}
	flushed := make(chan error, 1)
	check(t, j.Write(context.Background(), 0, pattern(1, 8192), false))
	go func() { flushed <- j.Sync(context.Background()) }()
	select {
	case err := <-flushed:
		t.Errorf("flush during a prewrite of the file: %v", err)
		flushed <- err
	case <-time.After(500 * time.Millisecond): // a sync that does not wait takes less
	}
	slow.zeroed <- errors.New("lost pages")
	if err := <-flushed; !errors.Is(err, ErrStopped) {
		t.Errorf("flush after a failed prewrite: %v", err)
	}
	if err := j.Close(); err == nil {
		t.Error("a journal that could not be synced closed without an error")
	}
}

// A read that began before its generation was retired gets its data, however
// soon the segment is wanted again.
func TestSegmentIsNotRecycledUnderARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		slow := &slowFS{FS: osFS{}}
		cfg := testConfig(t)
		cfg.FS = slow
		cfg.Quota = 4 * cfg.SegmentSize
		j := mustCreate(t, cfg, testIdentity(), mib)
		check(t, j.Write(ctx, 0, pattern(1, 8192), false))
		slow.hold = make(chan struct{})
		read := make(chan error, 1)
		p := make([]byte, 8192)
		go func() {
			_, err := j.Read(ctx, p, 0)
			read <- err
		}()
		synctest.Wait()
		written := make(chan error, 1)
		go func() { // once around the ring, and over the segment being read
			for range 12 {
				if err := j.Write(ctx, 0, pattern(2, 100<<10), false); err != nil {
					written <- err
					return
				}
				l, err := j.Seal(ctx, "", false)
				if err == nil {
					err = j.Retire(ctx, l.Gen())
				}
				if err != nil {
					written <- err
					return
				}
			}
			written <- nil
		}()
		synctest.Wait()
		if len(written) != 0 {
			t.Error("the segment was written while a read held it")
		}
		close(slow.hold)
		check(t, <-read)
		check(t, <-written)
		if !bytes.Equal(p, pattern(1, 8192)) {
			t.Error("the read got other data")
		}
	})
}
