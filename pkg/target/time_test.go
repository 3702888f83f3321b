package target

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// pipes is a listener whose connections are in memory: with them a server lives in a
// bubble of synthetic time, in which hours pass at once.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// inBubble runs a test of a server with a device in synthetic time.
func inBubble(t *testing.T, d Device, test func(t *testing.T, dial func() *initiator)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := pipes{make(chan net.Conn), make(chan struct{})}
		s, err := New(Config{Listener: listener})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddTarget(Target{IQN: testIQN, LUNs: oneLUN(d)}); err != nil {
			t.Fatal(err)
		}
		go s.Serve()
		defer s.Shutdown(context.Background())
		test(t, func() *initiator {
			ours, theirs := net.Pipe()
			listener.conns <- theirs
			t.Cleanup(func() { ours.Close() })
			return &initiator{t: t, conn: ours, in: pdu.NewReader(ours, 1<<20), name: "iqn.2026-11.test:host", cmdSN: 7}
		})
	})
}

// endsAfter checks that the target ends a connection, and when; what it sends until
// then is read and forgotten.
func (i *initiator) endsAfter(want time.Duration, what string) {
	i.t.Helper()
	began := time.Now()
	io.Copy(io.Discard, i.conn)
	if took := time.Since(began); took != want {
		i.t.Errorf("%s: ended after %v, want %v", what, took, want)
	}
}

// A connection has loginTimeout in all to log in, however it spends it.
func TestLoginTimeout(t *testing.T) {
	inBubble(t, newFakeDevice(), func(t *testing.T, dial func() *initiator) {
		dial().endsAfter(loginTimeout, "nothing is sent")

		i := dial()
		i.conn.Write(make([]byte, pdu.HeaderLen/2))
		i.endsAfter(loginTimeout, "half a PDU")

		i = dial()
		time.Sleep(loginTimeout - time.Second)
		const stays = 0x04 // in the operational stage
		if r := i.login(stays, "InitiatorName="+i.name, "TargetName="+testIQN); loginStatus(r) != login.Success {
			t.Fatalf("status %04x", loginStatus(r))
		}
		i.endsAfter(time.Second, "a request, and no other")

		i = dial()
		time.Sleep(loginTimeout - time.Second)
		i.mustLogin()
		time.Sleep(loginTimeout) // no limit any more
		i.powerOn()
	})
}

// Connections that say nothing keep nobody out, however many there are.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	inBubble(t, newFakeDevice(), func(t *testing.T, dial func() *initiator) {
		first := dial()
		began := time.Now()
		for range 2 * loginsAtOnce {
			dial()
		}
		first.endsAfter(0, "the oldest of too many")
		i := dial()
		i.mustLogin()
		i.powerOn()
		if took := time.Since(began); took > time.Second {
			t.Errorf("logged in after %v", took)
		}
	})
}

// A login that reinstates a session waits for the old one's write, but not for ever:
// it is refused as "try again", the old session is gone all the same, and the
// initiator comes in when the write has ended (R9).
func TestReinstatementTimeout(t *testing.T) {
	d := newFakeDevice()
	inBubble(t, d, func(t *testing.T, dial func() *initiator) {
		release := make(chan struct{})
		d.replace(hooks{write: func(_ context.Context, p []byte, off int64) error { // deaf to its context
			<-release
			d.store(p, off)
			return nil
		}})
		old := dial()
		old.mustLogin()
		old.powerOn()
		old.send(old.request(cdb10(opWrite10, 0, 1), 0, 512), pattern(512, 1))
		synctest.Wait()

		began := time.Now()
		next := dial()
		r := next.login(toFullFeature, "InitiatorName="+next.name, "TargetName="+testIQN)
		if took := time.Since(began); loginStatus(r) != login.Unavailable || took != loginTimeout {
			t.Fatalf("status %04x after %v, want %04x after %v", loginStatus(r), took, login.Unavailable, loginTimeout)
		}
		old.endsAfter(0, "the old session")

		next = dial()
		go func() { time.Sleep(loginTimeout / 2); close(release) }()
		began = time.Now()
		next.mustLogin()
		if took := time.Since(began); took != loginTimeout/2 {
			t.Errorf("logged in after %v, the write took %v", took, loginTimeout/2)
		}
		d.replace(hooks{})
		next.powerOn()
		want := pattern(512, 9)
		next.mustDo(cdb10(opWrite10, 0, 1), 0, want)
		if got := d.stored(512); !bytes.Equal(got, want) {
			t.Error("the old session's write landed last")
		}
	})
}

// A silent initiator is pinged, and given up after as long again; one that answers
// may be silent for ever, and so may one whose command is held.
func TestPing(t *testing.T) {
	inBubble(t, newFakeDevice(), func(t *testing.T, dial func() *initiator) {
		i := dial()
		i.mustLogin()
		i.powerOn()
		for range 1000 {
			r := i.receive()
			if r.Opcode() != pdu.NopIn || r.TaskTag() != pdu.NoTag || r.TransferTag() == pdu.NoTag {
				t.Fatalf("PDU %02x, want a ping", byte(r.Opcode()))
			}
			var h pdu.Header
			h.SetOpcode(pdu.NopOut)
			h[0] |= 0x40
			h.SetFlags(pdu.FlagFinal)
			h.SetTaskTag(pdu.NoTag)
			h.SetTransferTag(r.TransferTag())
			i.send(&h, nil)
		}
		if r := i.receive(); r.Opcode() != pdu.NopIn {
			t.Fatalf("PDU %02x, want a ping", byte(r.Opcode()))
		}
		i.endsAfter(pingInterval, "the ping is not answered")
	})
}

// What is kept for an initiator that asks and does not read is bounded in bytes, too:
// anybody on the node may have a discovery session.
func TestPingsThatAreNotRead(t *testing.T) {
	inBubble(t, newFakeDevice(), func(t *testing.T, dial func() *initiator) {
		i := dial()
		if r := i.login(toFullFeature, "InitiatorName=x", "SessionType=Discovery"); loginStatus(r) != login.Success {
			t.Fatalf("login: %04x", loginStatus(r))
		}
		i.conn.SetWriteDeadline(time.Now().Add(time.Second))
		ping, sent := make([]byte, login.Offer.MaxRecv), 0
		for h := new(pdu.Header); ; sent += len(ping) {
			h.SetOpcode(pdu.NopOut)
			h[0] |= 0x40
			h.SetFlags(pdu.FlagFinal)
			i.number(h)
			h.SetTransferTag(pdu.NoTag)
			if i.trySend(h, ping) != nil {
				break
			}
		}
		if sent > maxReplyBytes+4*len(ping) {
			t.Errorf("%d MiB of pings were taken", sent>>20)
		}
	})
}

// A question that is repeated in one request is answered once.
func TestSendTargetsTwice(t *testing.T) {
	i := connect(t, testServer(t, Target{LUNs: oneLUN(newFakeDevice())}))
	var h pdu.Header
	h.SetOpcode(pdu.TextRequest)
	h.SetFlags(pdu.FlagFinal)
	i.number(&h)
	h.SetTransferTag(pdu.NoTag)
	i.send(&h, []byte(strings.Repeat("SendTargets=\x00", 100)))
	if text := string(i.receive().data); strings.Count(text, "TargetName=") != 1 {
		t.Errorf("%d bytes of answer", len(text))
	}
}

// An initiator that stops reading is given up after writeTimeout or a little less, and
// the commands that it left behind are cancelled.
func TestWriteTimeout(t *testing.T) {
	d := newFakeDevice()
	inBubble(t, d, func(t *testing.T, dial func() *initiator) {
		i := dial()
		i.mustLogin()
		i.powerOn()
		cancelled := make(chan time.Time, 1)
		d.replace(hooks{write: func(ctx context.Context, _ []byte, _ int64) error {
			<-ctx.Done()
			cancelled <- time.Now()
			return ctx.Err()
		}})
		i.send(i.request(cdb10(opWrite10, 0, 1), 0, 512), pattern(512, 1))
		i.send(i.request(cdb10(opRead10, 0, 8), 4096, 0), nil) // its answer stays unread
		began := time.Now()
		if took := (<-cancelled).Sub(began); took > writeTimeout || took < writeTimeout*3/4 {
			t.Errorf("given up after %v, want %v", took, writeTimeout)
		}
	})
}
