package target

import (
	"context"
	"errors"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// task is a SCSI command in flight. It is made by the reader, carried out by a
// worker once its unsolicited data are complete, and leaves the session's tasks
// in finish.
type task struct {
	disk.Command
	session   *session
	units     *disk.Units
	ctx       context.Context
	cancel    context.CancelFunc
	lun       uint64
	unit      *disk.Unit // at lun, or nil
	tag       uint32
	immediate bool
	read      bool
	write     bool

	in *buffer // data-in; the worker's

	// Guarded by session.mu.
	aborted bool          // gets no response
	done    chan struct{} // made by those who wait for finish, closed there
	data    dataOut
}

// dataOut is the data-out of a task.
//
//	0      got          asked              want
//	|received|R2T sent, on its way|not asked for yet|
//
// The first burst, unsolicited, goes into a small buffer that the reader makes;
// the rest into one of full size that the worker waits for.
type dataOut struct {
	buffer      *buffer
	filling     bool // the reader is reading into buffer
	unsolicited bool // more unsolicited data will come
	spoilt      bool // data came out of place
	sn          uint32
	got         int
	want        int
	asked       int
	bursts      []burst // outstanding R2Ts
	requests    uint32  // R2Ts sent
	complete    chan struct{}
}

// burst is what one R2T asked for.
type burst struct {
	tag  uint32
	next int // buffer offset of the next Data-Out
	end  int
	sn   uint32
}

var errAborted = errors.New("command aborted")

// run carries the task out.
func (t *task) run() {
	t.units.Execute(t.ctx, t.unit, &t.Command)
	if t.Err != nil && t.ctx.Err() == nil {
		t.session.complaints.Do(func() { t.session.log.Error("SCSI command failed", "lun", t.lun>>48, "error", t.Err) })
	}
	t.session.finish(t)
}

// abort makes sure that the task is not answered and ends soon. The session is
// locked.
func (t *task) abort() {
	t.aborted = true
	t.abandon()
}

// abandon cancels the task, which is answered all the same. The session is locked.
func (t *task) abandon() {
	t.cancel()
	if t.data.unsolicited { // no worker has it yet
		t.data.unsolicited = false
		t.session.start(t)
	}
}

// wait returns a channel that is closed when the task can never be applied any
// more. The session is locked.
func (t *task) wait() <-chan struct{} {
	if t.done == nil {
		t.done = make(chan struct{})
	}
	return t.done
}

// In implements [disk.Transfer].
func (t *task) In(ctx context.Context, n int) ([]byte, error) {
	var err error
	if t.in, err = budgetedBuffer(ctx, t.session.readBudget, n); err != nil {
		return nil, err
	}
	return t.in.bytes, nil
}

// Out implements [disk.Transfer].
func (t *task) Out(ctx context.Context, n int) ([]byte, error) {
	if !t.write {
		return nil, nil
	}
	n = min(n, int(t.Expected))
	s := t.session
	d := &t.data
	s.mu.Lock()
	spoilt, got := d.spoilt, d.got
	s.mu.Unlock()
	switch {
	case spoilt:
		return nil, disk.ErrTransfer
	case n == 0:
		return nil, nil
	case got >= n:
		return d.buffer.bytes[:n], nil
	}
	whole, err := budgetedBuffer(ctx, s.writeBudget, n)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if d.buffer != nil {
		copy(whole.bytes, d.buffer.bytes[:d.got])
		d.buffer.release()
	}
	d.buffer, d.want, d.asked = whole, n, d.got
	d.complete = make(chan struct{})
	s.request(t)
	s.flush()
	s.mu.Unlock()
	select {
	case <-d.complete:
		if d.spoilt {
			return nil, disk.ErrTransfer
		}
		return whole.bytes, nil
	case <-ctx.Done():
		return nil, errAborted
	}
}

// Abort implements [disk.Transfer].
func (t *task) Abort(ctx context.Context, u *disk.Unit, nexuses []disk.Nexus) error {
	affected := t.session.node.abort(func(other *task) bool {
		return other != t && slices.Contains(nexuses, other.Nexus) && other.unit == u
	})
	for _, done := range affected {
		select {
		case <-done:
		case <-ctx.Done():
			return errAborted
		}
	}
	return nil
}

// request sends as many R2Ts as may be outstanding. The session is locked.
func (s *session) request(t *task) {
	d := &t.data
	for len(d.bursts) < s.params.MaxOutstandingR2T && d.asked < d.want {
		b := burst{tag: s.transferTag(), next: d.asked, end: min(d.asked+s.params.MaxBurst, d.want)}
		p := s.post(pdu.R2T, t.tag, nextStatus)
		p.Header.SetLUN(t.lun)
		p.Header.SetTransferTag(b.tag)
		p.Header.SetDataSN(d.requests)
		p.Header.SetBufferOffset(uint32(b.next))
		p.Header.SetDesiredLength(uint32(b.end - b.next))
		d.requests++
		d.asked = b.end
		d.bursts = append(d.bursts, b)
	}
}
