package attach

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// limits bound what one volume does per second. They may change at any time.
type limits struct {
	commands *rate.Limiter
	bytes    *rate.Limiter // read and written
	uploads  *rate.Limiter // bytes
}

func newLimits() *limits {
	none := func() *rate.Limiter { return rate.NewLimiter(rate.Inf, 0) }
	return &limits{none(), none(), none()}
}

// most is what may pass at a time whatever the limit, in bytes: a command or an
// object. What is larger counts as this.
const most = 16 << 20

func (l *limits) set(p class.Mutable) {
	set(l.commands, p.IOPS, 1)
	set(l.bytes, p.Bandwidth, most)
	set(l.uploads, p.UploadBandwidth, most)
}

// set allows so many per second, and some at a time; 0 is no limit.
func set(l *rate.Limiter, perSecond int64, burst int) {
	if perSecond == 0 {
		l.SetLimit(rate.Inf)
		return
	}
	l.SetBurst(burst)
	l.SetLimit(rate.Limit(perSecond))
}

// command waits until a command that moves n bytes may begin.
func (l *limits) command(ctx context.Context, n int) error {
	if err := l.commands.Wait(ctx); err != nil {
		return err
	}
	return l.bytes.WaitN(ctx, min(n, most))
}

// throttled is the store of a volume: what it takes counts against what the volume may
// upload per second.
type throttled struct {
	swift.Store
	uploads  *rate.Limiter
	uploaded prometheus.Counter // bytes
}

// await waits until the volume may upload again. That is before anything is made ready for
// it and takes a turn that other volumes wait for.
func (s throttled) await(ctx context.Context) error { return s.uploads.WaitN(ctx, 1) }

// Put never waits: what is more than the volume may upload, the next one waits for.
func (s throttled) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	etag, err := s.Store.Put(ctx, container, name, body, o)
	if err == nil {
		s.uploads.ReserveN(time.Now(), min(len(body), most))
		s.uploaded.Add(float64(len(body)))
	}
	return etag, err
}
