package disk

import "context"

// compareAndWrite is COMPARE AND WRITE (SBC-3): the first half of the
// data-out is what the blocks must hold, the second half is what they get. No
// other write comes between.
func compareAndWrite(ctx context.Context, u *Unit, c *Command) error {
	lba, _ := c.extent()
	off, n, err := u.span(lba, uint32(c.CDB[13]))
	if err != nil {
		return err
	}
	c.Moves = int(2 * n)
	if int(c.Expected) != c.Moves {
		return errField // which half is which would be a guess
	}
	if n == 0 {
		return nil
	}
	p, err := c.Transfer.Out(ctx, c.Moves)
	if err != nil {
		return err
	}
	if len(p) < c.Moves {
		return errField
	}
	expected, next := p[:n], p[n:]
	return u.change(ctx, writers, func() error {
		if err := u.compare(ctx, off, n, func(at int64, n int) []byte { return expected[at : at+int64(n)] }); err != nil {
			return err
		}
		return u.device.WriteAt(ctx, next, off, c.fua() || !u.writeCache.Load())
	})
}

// orWrite is ORWRITE(16) (SBC-3), in its basic form.
func orWrite(ctx context.Context, u *Unit, c *Command) error {
	off, n, err := u.transferSpan(c)
	if err != nil || n == 0 {
		return err
	}
	p, err := c.Transfer.Out(ctx, int(n))
	if err != nil {
		return err
	}
	p = wholeBlocks(p)
	old := make([]byte, len(p))
	return u.change(ctx, writers, func() error {
		if err := u.device.ReadAt(ctx, old, off); err != nil {
			return readFailed(err)
		}
		for i, b := range old {
			p[i] |= b
		}
		return u.device.WriteAt(ctx, p, off, c.fua() || !u.writeCache.Load())
	})
}
