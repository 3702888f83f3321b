package target

import (
	"encoding/binary"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// finish takes a task that has been carried out off the session, answers the
// initiator, and sends what is in the outbox.
func (s *session) finish(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, t.tag)
	if t.immediate {
		s.immediate--
	} else {
		s.busy--
	}
	if !t.data.filling { // else the reader gives it back
		t.data.buffer.release()
	}
	t.data.buffer = nil
	if t.aborted {
		t.in.release()
	} else {
		s.answer(t)
	}
	t.cancel()
	if t.done != nil {
		close(t.done)
	}
	if s.closed || s.draining {
		s.room.Broadcast() // end and drain count the tasks
	}
	s.flush()
	s.idle++ // only now: while it wrote, this worker could take no task
}

// answer posts Data-In and response of a task (RFC 7143 §11.4, §11.7). The
// session is locked.
func (s *session) answer(t *task) {
	residual, flag := t.residual()
	var data []byte
	if t.read {
		data = t.Command.In[:min(len(t.Command.In), int(t.Expected))]
	}
	if len(data) == 0 || t.Status != disk.Good {
		t.in.release()
		p := s.post(pdu.SCSIResponse, t.tag, hasStatus)
		p.Header[3] = byte(t.Status)
		p.Header.SetFlags(pdu.FlagFinal | flag)
		p.Header.SetResidual(residual)
		p.Header.SetDataSN(t.data.requests)
		if len(t.Sense) > 0 {
			p.Data = append(binary.BigEndian.AppendUint16(nil, uint16(len(t.Sense))), t.Sense...)
		}
		return
	}
	for at, sn := 0, uint32(0); at < len(data); sn++ {
		endOfBurst := (at/s.params.MaxBurst + 1) * s.params.MaxBurst
		end := min(at+s.params.MaxSend, endOfBurst, len(data))
		status, flags := noStatus, byte(0)
		if end == endOfBurst {
			flags = pdu.FlagFinal
		}
		if end == len(data) {
			status, flags = hasStatus, pdu.FlagFinal|pdu.FlagStatus|flag
		}
		p := s.post(pdu.DataIn, t.tag, status)
		p.Header.SetFlags(flags)
		p.Header.SetTransferTag(pdu.NoTag)
		p.Header.SetDataSN(sn)
		p.Header.SetBufferOffset(uint32(at))
		p.Data = data[at:end]
		if end == len(data) {
			p.Header[3] = byte(t.Status)
			p.Header.SetResidual(residual)
			p.buffer = t.in
			if t.in == nil {
				s.out.keep(p, cap(data)) // with what an allocation length has cut off
			}
		}
		at = end
	}
}

// residual is by how much the data of the command differ from what the
// initiator expected, and the flag that says in which direction.
func (t *task) residual() (uint32, byte) {
	moves := uint32(0)
	if t.Status == disk.Good {
		moves = uint32(t.Moves)
	}
	switch {
	case moves > t.Expected:
		return moves - t.Expected, pdu.FlagOverflow
	case moves < t.Expected:
		return t.Expected - moves, pdu.FlagUnderflow
	}
	return 0, 0
}
