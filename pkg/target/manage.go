package target

import (
	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// Task management functions and their responses (RFC 7143 §11.5.1, §11.6.1).
const (
	abortTask        = 1
	abortTaskSet     = 2
	clearTaskSet     = 4
	logicalUnitReset = 5
	targetWarmReset  = 6
	taskReassign     = 8

	functionComplete = 0
	noSuchTask       = 1
	noSuchLUN        = 2
	cannotReassign   = 4
	notSupported     = 5
	functionRejected = 255
)

// taskRequest takes a task management function. Which tasks it affects is
// decided at once, in the order of the stream; the response waits in a goroutine
// until all of them have ended (R9).
func (s *session) taskRequest(h *pdu.Header) error {
	if err := s.in.Skip(); err != nil {
		return err
	}
	if s.node == nil {
		return breach(h, "task management in a discovery session")
	}
	s.mu.Lock()
	s.hold()
	if s.management == maxManagement {
		s.reply(h, functionRejected)
		s.respond()
		s.mu.Unlock()
		return nil
	}
	s.management++
	s.mu.Unlock()
	m := s.judge(h)
	request := *h // the reader reuses h
	go func() {
		for _, done := range m.affected {
			<-done
		}
		if m.after != nil {
			m.after()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.management--
		s.reply(&request, m.response)
		s.flush()
	}()
	return nil
}

// management is a task management function on its way.
type management struct {
	affected []<-chan struct{} // closed as the tasks end
	after    func()            // what else to do then
	response byte
}

// reply posts a task management response. The session is locked.
func (s *session) reply(h *pdu.Header, response byte) {
	p := s.post(pdu.TaskResponse, h.TaskTag(), hasStatus)
	p.Header[2] = response
}

// judge aborts the tasks that a function affects.
func (s *session) judge(h *pdu.Header) management {
	units := s.node.units.Load()
	unit := units.Find(h.LUN())
	function := h.Flags() & 0x7f
	switch function {
	case abortTask, abortTaskSet, clearTaskSet, logicalUnitReset:
		if unit == nil { // a LUN that is being removed may have tasks
			onLUN := func(t *task) bool { return t.lun == h.LUN() }
			return management{affected: s.node.abort(onLUN), response: noSuchLUN}
		}
	}
	onUnit := func(t *task) bool { return t.unit == unit }
	switch function {
	case abortTask:
		tag := h.TransferTag() // at the place of the referenced task tag
		m := management{affected: s.abort(func(t *task) bool { return t.tag == tag && onUnit(t) })}
		if len(m.affected) == 0 {
			m.response = noSuchTask
		}
		return m
	case abortTaskSet:
		return management{affected: s.abort(onUnit)}
	case clearTaskSet:
		return management{
			affected: s.node.abort(onUnit),
			after:    func() { unit.TasksCleared(s.nexus) },
		}
	case logicalUnitReset:
		return management{
			affected: s.node.abort(onUnit),
			after:    func() { unit.Reset(s.nexus) },
		}
	case targetWarmReset:
		return management{
			affected: s.node.abort(func(*task) bool { return true }),
			after:    func() { units.All(func(u *disk.Unit) { u.Reset(s.nexus) }) },
		}
	case taskReassign:
		return management{response: cannotReassign}
	}
	return management{response: notSupported}
}

// cancel cancels the tasks on a unit, which are answered as not carried out, and
// returns channels that are closed as they end.
func (s *session) cancel(u *disk.Unit) []<-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	var affected []<-chan struct{}
	for _, t := range s.tasks {
		if t.unit == u {
			t.abandon()
			affected = append(affected, t.wait())
		}
	}
	return affected
}

// abort aborts the tasks that which selects and returns channels that are
// closed as they end.
func (s *session) abort(which func(*task) bool) []<-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	var affected []<-chan struct{}
	for _, t := range s.tasks {
		if which(t) {
			t.abort()
			affected = append(affected, t.wait())
		}
	}
	return affected
}
