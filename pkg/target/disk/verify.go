package disk

import (
	"bytes"
	"context"
)

// Values of the BYTCHK field (SBC-3).
const (
	checkMedium = 0 // the blocks can be read
	checkData   = 1 // they are the data-out
	checkBlock  = 3 // each is the one block of data-out
)

// verify is VERIFY(10), (12) and (16) (SBC-3).
func verify(ctx context.Context, u *Unit, c *Command) error {
	lba, blocks := c.extent()
	off, n, err := u.span(lba, blocks)
	if err != nil || n == 0 {
		return err
	}
	var want []byte
	switch c.byteCheck() {
	case checkMedium:
	case checkData:
		if n > MaxTransfer {
			return errField
		}
		c.Moves = int(n)
		if want, err = c.Transfer.Out(ctx, int(n)); err != nil {
			return err
		}
		want = wholeBlocks(want)
		n = int64(len(want))
	case checkBlock:
		c.Moves = BlockSize
		block, err := c.Transfer.Out(ctx, BlockSize)
		if err != nil {
			return err
		}
		if len(block) < BlockSize {
			return errField
		}
		return u.compare(ctx, off, n, func(int64, int) []byte { return block })
	default:
		return errField
	}
	return u.compare(ctx, off, n, func(at int64, n int) []byte {
		if want == nil {
			return nil
		}
		return want[at : at+int64(n)]
	})
}

// compareBuffer is how much is read back at once, in bytes.
const compareBuffer = 256 << 10

// compare reads n bytes at off and compares each piece with what want returns
// for it: as many bytes, one block to be repeated, or nil for anything.
func (u *Unit) compare(ctx context.Context, off, n int64, want func(at int64, n int) []byte) error {
	buffer := make([]byte, min(n, compareBuffer))
	for at := int64(0); at < n; {
		p := buffer[:min(n-at, int64(len(buffer)))]
		if err := u.device.ReadAt(ctx, p, off+at); err != nil {
			return readFailed(err)
		}
		for w := want(at, len(p)); len(w) > 0 && len(p) > 0; {
			if i := differ(w, p[:len(w)]); i >= 0 {
				return miscompare(int(at) + i)
			}
			p, at = p[len(w):], at+int64(len(w))
		}
		at += int64(len(p))
	}
	return nil
}

// differ returns where two slices of a length differ first, -1 if nowhere.
func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// writeAndVerify is WRITE AND VERIFY(10), (12) and (16) (SBC-3).
func writeAndVerify(ctx context.Context, u *Unit, c *Command) error {
	off, n, err := u.transferSpan(c)
	if err != nil {
		return err
	}
	check := c.byteCheck()
	if check > checkData {
		return errField
	}
	p, err := c.Transfer.Out(ctx, int(n))
	if err != nil {
		return err
	}
	p = wholeBlocks(p)
	if err := u.store(ctx, p, off, true); err != nil {
		return err
	}
	return u.compare(ctx, off, int64(len(p)), func(at int64, n int) []byte {
		if check == checkMedium {
			return nil
		}
		return p[at : at+int64(n)]
	})
}

// prefetch is PRE-FETCH(10) and (16) (SBC-3): a hint that nothing is
// made of.
func prefetch(_ context.Context, u *Unit, c *Command) error {
	lba, blocks := c.extent()
	_, _, err := u.span(lba, blocks)
	return err
}
