package target

import (
	"net"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// writeTimeout is how long the initiator may leave the connection full before
// it counts as dead; it may be a quarter less.
const writeTimeout = 60 * time.Second

// lastWrite is the same for the last message on a connection.
const lastWrite = time.Second

// outbox is the queue of PDUs to send. Whoever finishes a command adds its
// response and, if nobody is writing, writes all that is queued, so that under
// load one writev carries many responses. Guarded by session.mu, except for
// what the one writer uses while writing is set.
type outbox struct {
	queue   []packet
	spare   []packet
	vector  net.Buffers // the writer's
	unsent  net.Buffers // what is left of vector during a write
	writing bool
	timeout time.Duration
	until   time.Time // the deadline that the connection has for writes
	broken  bool      // a write failed: nothing is sent any more
	replies int       // bytes that wait and are of no budget, see keep
}

// packet is a PDU in the outbox and the buffer that its data lie in, if it is
// to be released after the write.
type packet struct {
	pdu.Frame
	buffer *buffer
	reply  int // bytes that outbox.replies counts
}

// Which number a PDU carries as StatSN.
const (
	noStatus   = iota // none: Data-In without status
	nextStatus        // the next one, which it does not use up: R2T, ping
	hasStatus         // one of its own
)

// post adds a PDU to the outbox and returns it to be filled in further, valid
// until the next post. The session is locked.
func (s *session) post(o pdu.Opcode, tag uint32, status int) *packet {
	s.out.queue = append(s.out.queue, packet{})
	p := &s.out.queue[len(s.out.queue)-1]
	h := &p.Header
	h.SetOpcode(o)
	h.SetFlags(pdu.FlagFinal)
	h.SetTaskTag(tag)
	number := s.statSN
	switch status {
	case noStatus:
		number = 0
	case hasStatus:
		s.statSN++
		s.out.keep(p, replyCost)
	}
	h.SetNumbers(number, s.expCmdSN, s.maxCmdSN())
	return p
}

// flush writes the outbox, unless another goroutine does already. The session
// is locked before and after, but not in between.
func (s *session) flush() {
	o := &s.out
	if o.writing {
		return
	}
	o.writing = true
	for len(o.queue) > 0 {
		batch := o.queue
		o.queue = o.spare[:0]
		broken := o.broken
		o.allowTime(s.conn)
		s.mu.Unlock()
		if !broken {
			broken = s.write(batch) != nil
		}
		replies := 0
		for i := range batch {
			replies += batch[i].reply
			batch[i].buffer.release()
		}
		clear(batch)
		s.mu.Lock()
		o.replies -= replies
		o.spare = batch[:0]
		if broken && !o.broken {
			o.broken = true
			s.conn.Close() // ends the reader, and with it the session
		}
		s.room.Broadcast()
	}
	o.writing = false
}

// flushed sends what was posted before the connection is closed: what another goroutine
// is sending, too, of which flush takes no notice. The session is locked.
func (s *session) flushed() {
	s.flush()
	for s.out.writing && !s.out.broken {
		s.room.Wait()
	}
}

// allowTime sets the deadline of the next write, unless enough is left of the last
// one: every change is a change of a timer.
func (o *outbox) allowTime(conn net.Conn) {
	if now := time.Now(); o.until.Sub(now) < o.timeout*3/4 {
		o.until = now.Add(o.timeout)
		conn.SetWriteDeadline(o.until)
	}
}

func (s *session) write(batch []packet) error {
	o := &s.out
	o.vector = o.vector[:0]
	for i := range batch {
		o.vector = batch[i].Buffers(o.vector, s.params.Digests)
	}
	o.unsent = o.vector
	_, err := o.unsent.WriteTo(s.conn)
	clear(o.vector)
	return err
}

// keep counts bytes that wait with a PDU and are of no budget.
func (o *outbox) keep(p *packet, n int) {
	p.reply += n
	o.replies += n
}

// respond lets the writer goroutine send what the reader has posted, so that
// the reader goes on reading. It waits while an initiator that does not read
// leaves more in the outbox than the commands in flight account for. The
// session is locked before and after.
func (s *session) respond() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
	for (len(s.out.queue) > maxReplies || s.out.replies > maxReplyBytes) && !s.out.broken {
		s.room.Wait()
	}
}

// hold keeps the reader from taking a request that will be answered later, as respond does.
// An initiator that keeps to the window is not held up by the number of its answers, and
// with it none of its pings and task management functions: what it has not read is one
// window of them, and as much that counts until a write is over. The session is locked.
func (s *session) hold() {
	for s.out.replies > maxReplyBytes && !s.out.broken {
		s.room.Wait()
	}
}

// How many PDUs may wait in the outbox, and how many bytes that are of no budget, before the
// reader stops taking requests.
const (
	maxReplies    = 4 * queueDepth
	maxReplyBytes = maxReplies * replyCost
)

// replyCost is what an answer counts besides its data: the PDU, and of a short one in a
// buffer what the budget leaves out of that.
const replyCost = 1 << smallestBuffer

// writer sends for the reader and looks after the connection: an initiator that
// has been silent for pingInterval is pinged, and one that stays silent for as
// long again is gone.
func (s *session) writer() {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	var (
		seen   uint64
		pinged bool
	)
	for {
		select {
		case <-s.over:
			return
		case <-s.wake:
			s.mu.Lock()
			s.flush()
			s.mu.Unlock()
		case <-ticker.C:
			if now := s.received.Load(); now != seen {
				seen, pinged = now, false
			} else if pinged {
				s.log.Info("iSCSI initiator does not answer")
				s.conn.Close()
			} else {
				pinged = true
				s.ping()
			}
		}
	}
}

// ping asks for a sign of life (RFC 7143 §11.19).
func (s *session) ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.post(pdu.NopIn, pdu.NoTag, nextStatus)
	p.Header.SetTransferTag(s.transferTag())
	s.flush()
}
