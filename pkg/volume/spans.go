package volume

// span is a half-open range of bytes.
type span struct{ from, to int64 }

func (s span) len() int64 { return s.to - s.from }

// and returns what s and t share; its length is not positive if that is nothing.
func (s span) and(t span) span { return span{max(s.from, t.from), min(s.to, t.to)} }

// spans is a set of bytes: sorted, disjoint, none empty.
type spans []span

// remove takes r out of the set. It may reuse the memory of s.
func (s spans) remove(r span) spans {
	kept := s[:0]
	for i, t := range s {
		if t.and(r).len() <= 0 {
			kept = append(kept, t)
			continue
		}
		left, right := span{t.from, r.from}, span{r.to, t.to}
		if left.len() > 0 && right.len() > 0 {
			// The only case in which one span becomes two: r lies inside t, so no
			// later span is touched.
			rest := append(spans(nil), s[i+1:]...)
			return append(append(kept, left, right), rest...)
		}
		if left.len() > 0 {
			kept = append(kept, left)
		}
		if right.len() > 0 {
			kept = append(kept, right)
		}
	}
	return kept
}
