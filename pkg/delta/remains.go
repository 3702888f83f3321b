package delta

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"syscall"
)

// Remains are what a journal holds, for who only reads it: the directory stays as it is.
// Where the log is damaged they end before that, and are a prefix of what was written, in
// its order (P2). Their methods are safe for concurrent use, but for Close.
type Remains struct {
	journal *Journal
	damage  error
}

// Inspect opens the remains of a journal that no process works with. The errors are those of
// Open; ErrDamaged only if nothing is left that is not published.
func Inspect(cfg Config, id Identity) (*Remains, error) {
	r, err := inspect(cfg, id)
	if err != nil {
		return nil, id.wrap("inspect", err)
	}
	return r, nil
}

func inspect(cfg Config, id Identity) (*Remains, error) {
	j, err := prepare(cfg, id)
	if err != nil {
		return nil, err
	}
	if _, err := j.load(); err != nil {
		return nil, err
	}
	r := recovery{j: j}
	damage := r.run(j.anchor)
	if damage != nil && (!errors.Is(damage, ErrDamaged) && !errors.Is(damage, syscall.EIO) || r.gen <= j.anchor.retired) {
		return nil, errors.Join(damage, j.release())
	}
	if len(j.stack.layers) == 0 { // of what is not published nothing precedes the damage
		j.stack.push(j, r.gen)
	}
	if damage != nil {
		damage = fmt.Errorf("record %d is not there: %w", r.next.seq, damage)
	}
	return &Remains{j, damage}, nil
}

// Damage is why the log ends before what it had promised: ErrDamaged, or an I/O error of the
// disk; nil if it does not.
func (r *Remains) Damage() error { return r.journal.wrap("inspect", r.damage) }

// Identity is whose journal it is.
func (r *Remains) Identity() Identity { return r.journal.id }

// Retired is the newest generation that is published, 0 if there is none; what remains
// follows it.
func (r *Remains) Retired() uint64 { return r.journal.anchor.retired }

// State is the volume's, as the last record left it.
func (r *Remains) State() State { return r.journal.State() }

// Chunks yields the numbers of the chunks that something is left of, ascending.
func (r *Remains) Chunks() iter.Seq[uint64] {
	var all []uint64
	for _, l := range r.journal.stack.layers {
		all = slices.AppendSeq(all, l.Chunks())
	}
	slices.Sort(all)
	return slices.Values(slices.Compact(all))
}

// Read is [Journal.Read].
func (r *Remains) Read(ctx context.Context, p []byte, off int64) (holes []Span, err error) {
	return r.journal.Read(ctx, p, off)
}

// Close closes the files, and lets others open the journal.
func (r *Remains) Close() error { return r.journal.wrap("close", r.journal.release()) }
