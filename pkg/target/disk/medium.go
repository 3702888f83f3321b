package disk

import (
	"bytes"
	"context"
)

// read is READ(6), (10), (12) and (16) (SBC-3).
func read(ctx context.Context, u *Unit, c *Command) error {
	off, n, err := u.transferSpan(c)
	if err != nil || n == 0 {
		return err
	}
	if c.fua() { // what is read shall be on the medium
		if err := u.device.Flush(ctx); err != nil {
			return writeFailed(err)
		}
	}
	p, err := c.Transfer.In(ctx, int(n))
	if err != nil {
		return err
	}
	if err := u.device.ReadAt(ctx, p, off); err != nil {
		return readFailed(err)
	}
	c.In = p
	return nil
}

// write is WRITE(6), (10), (12) and (16) (SBC-3). Of a command whose
// expected length is too short, the whole blocks that came are written.
func write(ctx context.Context, u *Unit, c *Command) error {
	off, n, err := u.transferSpan(c)
	if err != nil {
		return err
	}
	p, err := c.Transfer.Out(ctx, int(n))
	if err != nil {
		return err
	}
	return u.store(ctx, wholeBlocks(p), off, c.fua())
}

// synchronize is SYNCHRONIZE CACHE(10) and (16) (SBC-3). The whole device
// is flushed, and before IMMED too: an early GOOD would promise what may fail.
func synchronize(ctx context.Context, u *Unit, c *Command) error {
	lba, blocks := c.extent()
	if _, _, err := u.span(lba, blocks); err != nil {
		return err
	}
	return writeFailed(u.device.Flush(ctx))
}

// transferSpan is the extent of a command that moves it in one piece.
func (u *Unit) transferSpan(c *Command) (off, n int64, err error) {
	lba, blocks := c.extent()
	if off, n, err = u.span(lba, blocks); err != nil {
		return 0, 0, err
	}
	if n > MaxTransfer {
		return 0, 0, errField
	}
	c.Moves = int(n)
	return off, n, nil
}

func wholeBlocks(p []byte) []byte { return p[:len(p)/BlockSize*BlockSize] }

// store writes p beside other writes.
func (u *Unit) store(ctx context.Context, p []byte, off int64, fua bool) error {
	if len(p) == 0 {
		return nil
	}
	return u.change(ctx, 1, func() error {
		return u.device.WriteAt(ctx, p, off, fua || !u.writeCache.Load())
	})
}

// change runs an operation that modifies the medium; weight is 1 beside other
// writes, writers for a command that must not see one halfway.
func (u *Unit) change(ctx context.Context, weight int64, run func() error) error {
	if err := u.exclusive.Acquire(ctx, weight); err != nil {
		return err
	}
	defer u.exclusive.Release(weight)
	return writeFailed(run())
}

func isZero(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }
