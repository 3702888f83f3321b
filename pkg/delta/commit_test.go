package delta

import "testing"

// Nothing comes between the records of one write, whatever would still fit.
func TestNothingComesBetweenTheRecordsOfAWrite(t *testing.T) {
	cfg := testConfig(t)
	j := mustCreate(t, cfg, testIdentity(), 4*mib)
	p := pattern(1, mib) // four times the segment
	large := &request{kind: kindData, n: mib, data: p, sums: blockSums(p, 0)}
	zero := &request{kind: kindData, off: 0, n: mib}
	seal := &request{kind: kindSeal}
	c := &committer{j: j, buf: alignedBuffer(headerSize + maxBlocks*Block)}
	batch := []*request{large, zero, seal}
	for large.put < large.n {
		var h header
		_, done := c.fill(&h, batch)
		rest := large.put < large.n
		if rest && (done != 0 || len(h.extents) != 1) {
			t.Fatalf("%d requests done, %d extents in a record before the write's end", done, len(h.extents))
		}
		if !rest && done != 2 {
			t.Fatalf("%d requests done in the write's last record, want the write and the zeros", done)
		}
	}
}
