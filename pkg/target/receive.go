package target

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// Reasons of a Reject (RFC 7143 §11.17.1).
const (
	rejectDigest       = 0x02
	rejectSnack        = 0x03
	rejectProtocol     = 0x04
	rejectUnsupported  = 0x05
	rejectTooMany      = 0x06 // immediate commands
	rejectInProgress   = 0x07
	rejectInvalidField = 0x09
)

// errLogout ends a session as the initiator wishes.
var errLogout = errors.New("logged out")

// protocolError is a breach of RFC 7143 after which the connection is dropped:
// at error recovery level 0 the initiator logs in again and resends.
type protocolError struct {
	opcode pdu.Opcode
	reason string
}

func (e *protocolError) Error() string {
	return fmt.Sprintf("iSCSI PDU %#02x: %s", byte(e.opcode), e.reason)
}

func breach(h *pdu.Header, reason string) error { return &protocolError{h.Opcode(), reason} }

// receive takes requests until the connection ends.
func (s *session) receive() error {
	var h pdu.Header
	for {
		if err := s.in.Next(&h); err != nil {
			return err
		}
		s.received.Add(1)
		if err := s.take(&h); err != nil {
			s.refuse(&h, err)
			return err
		}
	}
}

// refuse tells the initiator why the connection is about to end, if it is for a
// PDU of its.
func (s *session) refuse(h *pdu.Header, err error) {
	var reason byte
	switch _, breached := errors.AsType[*protocolError](err); {
	case errors.Is(err, pdu.ErrDigest):
		reason = rejectDigest
	case breached:
		reason = rejectProtocol
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reject(h, reason)
	s.flushed()
}

// take takes one request; an error ends the session. Its data segment has been
// read when it returns nil.
func (s *session) take(h *pdu.Header) error {
	switch h.Opcode() {
	case pdu.SCSICommand, pdu.TaskRequest, pdu.NopOut, pdu.TextRequest, pdu.LogoutReq:
		inOrder, err := s.inOrder(h)
		if err != nil {
			return err
		}
		if !inOrder {
			return s.in.Skip()
		}
	}
	switch h.Opcode() {
	case pdu.SCSICommand:
		return s.command(h)
	case pdu.DataOut:
		return s.dataOut(h)
	case pdu.NopOut:
		return s.nop(h)
	case pdu.TaskRequest:
		return s.taskRequest(h)
	case pdu.TextRequest:
		return s.textRequest(h)
	case pdu.LogoutReq:
		return s.logout(h)
	case pdu.Snack:
		return s.skipAndReject(h, rejectSnack) // RFC 7143 §11.16: level 0 has none
	case pdu.LoginReq:
		return breach(h, "login in full feature phase")
	}
	return s.skipAndReject(h, rejectUnsupported)
}

// inOrder counts a request into the CmdSN order (RFC 7143 §4.2.2.1). One that is
// outside the window is ignored. One inside it after a gap cannot come over a
// single connection that loses nothing.
func (s *session) inOrder(h *pdu.Header) (bool, error) {
	if h.Immediate() {
		return true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sn := h.CmdSN()
	switch {
	case pdu.Before(sn, s.expCmdSN) || pdu.Before(s.maxCmdSN(), sn):
		return false, nil
	case sn != s.expCmdSN:
		return false, breach(h, "CmdSN skips commands")
	}
	if h.Opcode() != pdu.SCSICommand { // which takes a place: see admit
		s.expCmdSN++
	}
	return true, nil
}

func (s *session) skipAndReject(h *pdu.Header, reason byte) error {
	if err := s.in.Skip(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reject(h, reason)
	s.respond()
	return nil
}

// reject posts a Reject with the header it is about. The session is locked.
func (s *session) reject(h *pdu.Header, reason byte) {
	p := s.post(pdu.Reject, pdu.NoTag, hasStatus)
	p.Header[2] = reason
	copied := *h
	p.Data = copied[:]
}

// command takes a SCSI command and its immediate data.
func (s *session) command(h *pdu.Header) error {
	t := &task{
		session:   s,
		lun:       h.LUN(),
		tag:       h.TaskTag(),
		immediate: h.Immediate(),
		read:      h.Flags()&pdu.FlagRead != 0,
		write:     h.Flags()&pdu.FlagWrite != 0,
	}
	t.Expected = h.ExpectedLength()
	t.Nexus = s.nexus
	t.Transfer = t
	copy(t.CDB[:], h.CDB())
	first := min(s.params.FirstBurst, int(t.Expected))
	d := &t.data
	d.unsolicited = t.write && !h.Final()
	n := h.DataLen()
	switch {
	case s.node == nil:
		return breach(h, "SCSI command in a discovery session")
	case n > 0 && (!t.write || !s.params.ImmediateData):
		return breach(h, "immediate data not agreed on")
	case n > first:
		return breach(h, "more immediate data than a first burst")
	case d.unsolicited && (s.params.InitialR2T || n >= first):
		return breach(h, "unsolicited data not agreed on")
	}
	if d.unsolicited {
		d.buffer = newBuffer(first)
	} else if n > 0 {
		d.buffer = newBuffer(n)
	}
	if n > 0 {
		if err := s.in.Data(d.buffer.bytes); err != nil {
			d.buffer.release()
			return err
		}
		d.got = n
	}
	t.units = s.node.units.Load()
	t.ctx, t.cancel = context.WithCancel(context.Background())
	s.admit(h, t)
	return nil
}

// admit enters a task into the session's, or rejects it.
func (s *session) admit(h *pdu.Header, t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold()
	if !t.immediate { // not before it has its place: MaxCmdSN would go forth and back
		s.expCmdSN++
	}
	reason := byte(0)
	if t.immediate && s.immediate == maxImmediate {
		reason = rejectTooMany
	} else if s.tasks[t.tag] != nil {
		reason = rejectInProgress
	}
	if reason != 0 || s.draining {
		t.data.buffer.release()
		t.cancel()
		if reason != 0 {
			s.reject(h, reason)
			s.respond()
		}
		return
	}
	t.unit = t.units.Find(t.lun) // with the lock: session.cancel misses none
	s.tasks[t.tag] = t
	if t.immediate {
		s.immediate++
	} else {
		s.busy++
	}
	if !t.data.unsolicited {
		s.start(t)
	}
}

// dataOut takes a Data-Out (RFC 7143 §11.7). Data of tasks that are gone,
// cancelled or spoilt are dropped; data out of place spoil their task.
func (s *session) dataOut(h *pdu.Header) error {
	n := h.DataLen()
	s.mu.Lock()
	t := s.tasks[h.TaskTag()]
	if t == nil || t.ctx.Err() != nil || t.data.spoilt {
		s.mu.Unlock()
		return s.in.Skip()
	}
	d := &t.data
	at, ok := d.place(h, n)
	if !ok {
		s.spoil(t)
		s.mu.Unlock()
		return s.in.Skip()
	}
	buffer := d.buffer
	d.filling = true
	s.mu.Unlock()

	err := s.in.Data(buffer.bytes[at : at+n])

	s.mu.Lock()
	defer s.mu.Unlock()
	d.filling = false
	if d.buffer != buffer { // the task was cancelled and has finished
		buffer.release()
		return err
	}
	if err == nil {
		s.arrived(t, h, n)
	}
	return err
}

// arrived counts n bytes of data-out in. The session is locked.
func (s *session) arrived(t *task, h *pdu.Header, n int) {
	d := &t.data
	if t.ctx.Err() != nil { // its worker has it already
		return
	}
	d.got += n
	if h.TransferTag() == pdu.NoTag {
		if h.Final() {
			d.unsolicited = false
			s.start(t)
		}
		return
	}
	d.bursts = slices.DeleteFunc(d.bursts, func(b burst) bool { return b.next == b.end })
	if d.got == d.want {
		close(d.complete)
	} else if d.asked < d.want {
		s.request(t)
		s.respond()
	}
}

// place finds where in the buffer a Data-Out belongs, and reports whether it is
// the next of its sequence. The session is locked.
func (d *dataOut) place(h *pdu.Header, n int) (at int, ok bool) {
	at = int(h.BufferOffset())
	if h.TransferTag() == pdu.NoTag {
		ok = d.unsolicited && at == d.got && h.DataSN() == d.sn && at+n <= len(d.buffer.bytes) &&
			(h.Final() || at+n < len(d.buffer.bytes))
		d.sn++
		return at, ok
	}
	for i := range d.bursts {
		b := &d.bursts[i]
		if b.tag != h.TransferTag() {
			continue
		}
		ok = at == b.next && h.DataSN() == b.sn && at+n <= b.end && h.Final() == (at+n == b.end)
		b.next += n
		b.sn++
		return at, ok
	}
	return 0, false // nobody asked for it
}

// spoil lets a task fail whose data-out cannot be put together any more. The
// session is locked.
func (s *session) spoil(t *task) {
	d := &t.data
	d.spoilt = true
	if d.unsolicited {
		d.unsolicited = false
		s.start(t)
	} else if d.got < d.want { // the worker waits
		close(d.complete)
	}
}

// nop answers a NOP-Out (RFC 7143 §11.18) that asks for it.
func (s *session) nop(h *pdu.Header) error {
	if h.TaskTag() == pdu.NoTag { // answers a ping of ours
		return s.in.Skip()
	}
	echo := newBuffer(h.DataLen())
	if err := s.in.Data(echo.bytes); err != nil {
		echo.release()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.post(pdu.NopIn, h.TaskTag(), hasStatus)
	p.Header.SetTransferTag(pdu.NoTag)
	p.Header.SetLUN(h.LUN())
	p.Data, p.buffer = echo.bytes[:min(len(echo.bytes), s.params.MaxSend)], echo
	s.out.keep(p, len(echo.bytes))
	s.respond()
	return nil
}

// logout ends the session (RFC 7143 §11.14): its commands first.
func (s *session) logout(h *pdu.Header) error {
	if err := s.in.Skip(); err != nil {
		return err
	}
	const removeForRecovery = 2
	s.mu.Lock()
	defer s.mu.Unlock()
	reason := h.Flags() & 0x7f
	if reason > removeForRecovery {
		s.reject(h, rejectInvalidField)
		s.respond()
		return nil
	}
	if reason != removeForRecovery {
		s.closed = true
		for _, t := range s.tasks {
			t.abort()
		}
		for len(s.tasks) > 0 {
			s.room.Wait()
		}
	}
	p := s.post(pdu.LogoutResp, h.TaskTag(), hasStatus)
	if reason == removeForRecovery {
		p.Header[2] = 2 // connection recovery is not supported
		s.respond()
		return nil
	}
	s.flushed()
	return errLogout
}
