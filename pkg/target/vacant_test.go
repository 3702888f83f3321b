package target

import (
	"context"
	"testing"
	"time"
)

// A target is vacant from the moment that it lets logins in, but for the time of its
// sessions.
func TestVacant(t *testing.T) {
	s := testServer(t, Target{NotReady: true})
	vacant := func(what string, want bool) {
		t.Helper()
		within := time.Now().Add(waitLimit) // the end of a session is noticed in time
		for (s.Vacant(testIQN) > 0) != want {
			if time.Now().After(within) {
				t.Fatalf("%s: vacant for %v", what, s.Vacant(testIQN))
			}
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(20 * time.Millisecond)
	vacant("nobody may log in yet", false)
	ready := time.Now()
	if err := s.SetReady(testIQN, oneLUN(newFakeDevice())...); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if d := s.Vacant(testIQN); d < 20*time.Millisecond || d > time.Since(ready) {
		t.Errorf("vacant for %v, want the time since it is ready", d)
	}
	i := connect(t, s)
	time.Sleep(20 * time.Millisecond)
	vacant("logged in", false)
	left := time.Now()
	i.conn.Close()
	vacant("the connection is gone", true)
	if d := s.Vacant(testIQN); d > time.Since(left) {
		t.Errorf("vacant for %v, want the time since the session ended", d)
	}
	i = connect(t, s)
	vacant("back", false)
	i.conn.Close()
	vacant("gone again", true)
	if err := s.RemoveTarget(context.Background(), testIQN); err != nil {
		t.Fatal(err)
	}
	vacant("removed", false)
}
