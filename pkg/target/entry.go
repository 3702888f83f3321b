package target

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// firstStatSN is the StatSN of the first login response.
const firstStatSN = 1

// refusal is a login that failed with a status.
type refusal login.Status

func (r refusal) Error() string { return fmt.Sprintf("login status %04x", uint16(r)) }

// login runs the login phase on a new connection and returns its session.
func (s *Server) login(ctx context.Context, conn net.Conn) (*session, error) {
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	defer conn.SetDeadline(time.Time{})
	var (
		in      = pdu.NewReader(conn, login.MaxText)
		asked   = &directory{Server: s}
		machine = login.NewMachine(asked)
		req     pdu.Header
		statSN  = uint32(firstStatSN)
	)
	for {
		if err := in.Next(&req); err != nil {
			return nil, err
		}
		text := make([]byte, req.DataLen())
		if err := in.Data(text); err != nil {
			return nil, err
		}
		reply := machine.Step(&req, text)
		var ss *session
		if reply.Done {
			ss, reply.Status = s.establish(ctx, conn, in, machine, asked.node)
		}
		if reply.Status != login.Success {
			reply = login.Reply{Status: reply.Status}
		}
		response := pdu.Frame{Data: reply.Text}
		reply.Response(&req, &response.Header)
		response.Header.SetNumbers(statSN, req.CmdSN(), req.CmdSN()+queueDepth-1)
		statSN++
		if ss != nil {
			login.SetTSIH(&response.Header, ss.tsih)
			ss.mu.Lock()
			ss.expCmdSN, ss.statSN = req.CmdSN(), statSN
			ss.mu.Unlock()
		}
		conn.SetWriteDeadline(time.Now().Add(lastWrite)) // a refusal may come at the deadline
		buffers := net.Buffers(response.Buffers(nil, pdu.Digests{}))
		_, err := buffers.WriteTo(conn)
		if reply.Status != login.Success {
			return nil, refusal(reply.Status)
		}
		if err != nil && ss == nil {
			return nil, err
		}
		if ss != nil { // its reader finds out if the response was lost
			return ss, nil
		}
	}
}

// establish enters the session of a login that is about to succeed, on the node that has
// authenticated it; nil: for discovery.
func (s *Server) establish(ctx context.Context, conn net.Conn, in *pdu.Reader, m *login.Machine, n *node) (*session, login.Status) {
	if n != nil {
		switch now, err := s.node(n.iqn); {
		case err != nil:
			return nil, login.NotFound
		case now != n: // another target of the name, which has authenticated nobody
			return nil, login.Unavailable
		}
		if m.TSIH != 0 { // another connection for a session that allows one
			if n.find(m.TSIH) == nil {
				return nil, login.NoSession
			}
			return nil, login.NoConnection
		}
	}
	ss := newSession(s, n, conn, in, m)
	if !s.number(ss) {
		return nil, login.OutOfResources
	}
	if n == nil {
		return ss, login.Success
	}
	if status := n.join(ctx, ss); status != login.Success {
		s.mu.Lock()
		delete(s.sessions, ss.tsih)
		s.mu.Unlock()
		close(ss.ended) // Shutdown may have seen it
		return nil, status
	}
	return ss, login.Success
}

// number gives a session the next free TSIH; false: there are too many.
func (s *Server) number(ss *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.sessions) >= sessionsAtOnce || ss.node == nil && s.browsers() >= browsersAtOnce {
		return false
	}
	for s.lastTSIH++; s.lastTSIH == 0 || s.sessions[s.lastTSIH] != nil; s.lastTSIH++ {
	}
	ss.tsih = s.lastTSIH
	s.sessions[ss.tsih] = ss
	return true
}

// directory is what a login may ask of a Server, and what it has asked about.
type directory struct {
	*Server
	node *node
}

// Access implements [login.Directory].
func (d *directory) Access(initiator, target string) (CHAP, login.Status) {
	n, err := d.Server.node(target)
	if err != nil {
		return CHAP{}, login.NotFound
	}
	d.node = n
	return n.access(initiator)
}
