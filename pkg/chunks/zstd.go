package chunks

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The coders are shared: EncodeAll and DecodeAll are safe for concurrent use and
// wait for one of GOMAXPROCS states.
var (
	compressor = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderCRC(false), // the footer has checksums of the raw data
			zstd.WithWindowSize(FrameSize),
			zstd.WithSingleSegment(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})

	decompressor = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(0),
			zstd.WithDecoderMaxMemory(FrameSize),
			zstd.WithDecodeAllCapLimit(true)) // never decodes past the frame's own length
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	})
)
