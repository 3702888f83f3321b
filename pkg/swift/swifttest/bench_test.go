package swifttest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

// BenchmarkStore measures the embedded server, which syncs every object, and a
// real Swift where there is one.
func BenchmarkStore(b *testing.B) {
	b.Run("embedded", func(b *testing.B) {
		client, _ := NewServer(b, embedded.Options{})
		benchmark(b, client)
	})
	b.Run("real", func(b *testing.B) { benchmark(b, NewRealStore(b)) })
}

func benchmark(b *testing.B, s swift.Store) {
	c := scratch(b, s)
	for _, size := range []int{4 << 10, 8 << 20} {
		body := noise(size)
		var n atomic.Int64
		b.Run(fmt.Sprintf("put %d KiB, 4 at a time", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.SetParallelism(2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Put(b.Context(), c, fmt.Sprintf("o/%d", n.Add(1)), body, swift.PutOptions{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
		b.Run(fmt.Sprintf("get %d KiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			buf := make([]byte, size)
			for b.Loop() {
				if _, err := s.Get(b.Context(), c, "o/1", swift.GetOptions{Buf: buf}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
