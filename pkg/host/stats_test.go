package host

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file system that does not answer holds one call, however often it is asked, and none
// of another.
func TestStatfsOfWhatHangs(t *testing.T) {
	s := NewStatfs(20 * time.Millisecond)
	hanging, answer := make(chan string, 20), make(chan struct{})
	s.statfs = func(path string, _ *unix.Statfs_t) error {
		hanging <- path
		<-answer
		return nil
	}
	for range 20 {
		if _, err := s.Usage(t.Context(), "/hangs"); !errors.Is(err, ErrSlow) {
			t.Errorf("Usage = %v, want ErrSlow", err)
		}
	}
	<-hanging
	if n := len(hanging); n > 0 {
		t.Errorf("%d calls hang beside the first", n)
	}
	s.timeout, s.statfs = time.Minute, unix.Statfs
	if u, err := s.Usage(t.Context(), "/"); err != nil || u.Bytes.Total == 0 {
		t.Errorf("beside one that hangs: %+v, %v", u, err)
	}
	close(answer)
	if _, err := s.Usage(t.Context(), "/hangs"); errors.Is(err, ErrSlow) {
		t.Error(err)
	}
}
