package target

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// holdings is what a process holds.
type holdings struct {
	goroutines, files int
	heap              int64 // bytes that are reachable
}

func held(t *testing.T) holdings {
	t.Helper()
	runtime.GC()
	runtime.GC() // what pools held is gone with the second
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return holdings{runtime.NumGoroutine(), len(files), int64(m.HeapAlloc)}
}

// logins is how many TestManyLoginsLeaveNothing makes: as many as the server lets
// in without a pause, unless the environment says otherwise.
func logins(t *testing.T) int {
	text := os.Getenv("TARGET_LOGINS")
	if text == "" {
		return loginsPerSec
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Sessions that come and go, in whatever way, leave nothing behind.
// TARGET_LOGINS=100000 takes some minutes.
func TestManyLoginsLeaveNothing(t *testing.T) {
	const (
		batch   = 250
		heap    = 1 << 20 // that may be left, of sessions that hold 10 KiB and more each
		allowed = 4       // goroutines and files, of the runtime
	)
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	var before holdings
	for n := 0; n < logins(t); n += batch {
		// Batches are tests of their own: what they hold themselves goes with them.
		t.Run("batch", func(t *testing.T) {
			for k := range batch {
				comeAndGo(t, s, k)
			}
		})
		waitForNoSessions(t, s)
		if n == 0 {
			before = held(t)
		}
	}
	after := held(t)
	for limit := time.Now().Add(waitLimit); after.goroutines > before.goroutines+allowed && time.Now().Before(limit); after = held(t) {
		time.Sleep(10 * time.Millisecond) // the last ones of a session end after it
	}
	if after.goroutines > before.goroutines+allowed || after.files > before.files+allowed || after.heap > before.heap+heap {
		t.Errorf("held after the first batch %+v, after the last %+v", before, after)
	}
}

// comeAndGo is one connection, that ends in one of the ways that there are.
func comeAndGo(t *testing.T, s *Server, way int) {
	switch i := dial(t, s); way % 5 {
	case 0: // says nothing
		i.conn.Close()
	case 1: // is cut off in its first PDU
		i.conn.Write(make([]byte, 20))
		i.conn.Close()
	case 2: // is refused
		r := i.login(toFullFeature, "InitiatorName="+i.name, "TargetName="+testIQN+"-none", "SessionType=Normal")
		if got := loginStatus(r); got != login.NotFound {
			t.Fatalf("login to a target that is not there: %04x", got)
		}
		i.expectEnd()
	case 3: // is gone without a word, with a command in flight
		i.mustLogin()
		i.send(i.request(testUnitReady, 0, 0), nil)
		i.conn.Close()
	case 4: // logs out
		i.mustLogin()
		var h pdu.Header
		h.SetOpcode(pdu.LogoutReq)
		h.SetFlags(pdu.FlagFinal)
		i.number(&h)
		i.send(&h, nil)
		i.receive()
		i.expectEnd()
	}
}

func waitForNoSessions(t *testing.T, s *Server) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		sessions, pending := len(s.sessions), len(s.pending)
		s.mu.Unlock()
		if sessions+pending == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions and %d logins are left", sessions, pending)
		}
	}
}
