package preflight

import (
	"context"
	"errors"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Account is the Swift account of the process; see [swift.Client].
type Account interface {
	Account(ctx context.Context) (swift.Account, error)
}

// How far the node's clock may be from Swift's. Swift dates objects to the second.
const (
	skewSeen = 5 * time.Second
	// skewBad is where tokens of Keystone and certificates begin to be refused.
	skewBad = 5 * time.Minute
)

const (
	checkSwift = "Swift"
	checkClock = "clock"
)

// CheckStore looks whether Swift is reached with our credentials, and whether its
// clock and ours agree.
func CheckStore(ctx context.Context, store Account, now func() time.Time) []Result {
	asked := now()
	account, err := store.Account(ctx)
	answered := now()
	if err != nil {
		return []Result{
			refusal(err).of(checkSwift),
			warning("first see to Swift", "there is no clock to compare with").of(checkClock),
		}
	}
	reached := ok("the account is reached; it holds %d bytes, of a quota that is not known", account.Used)
	if free, limited := account.Free(); limited {
		reached = ok("the account is reached; it holds %d bytes and has room for %d more", account.Used, free)
		if free == 0 {
			reached = failure("raise the quota of the account, or delete volumes (csi-swiftblock volume rm)", "the account is full: %d of %d bytes", account.Used, account.Quota)
		}
	}
	return []Result{reached.of(checkSwift), clock(account.Date, asked, answered).of(checkClock)}
}

// Unconfigured is the result where no credentials are found.
func Unconfigured(err error) []Result {
	return []Result{failure("set OS_CLOUD and OS_CLIENT_CONFIG_FILE, or ST_AUTH, ST_USER and ST_KEY (values swift.* of the chart)", "%v", err).of(checkSwift)}
}

func refusal(err error) Result {
	remedy := "look at Swift's proxy, and at what it answers to this request"
	switch {
	case errors.Is(err, swift.ErrUnauthorized):
		remedy = "mend the credentials: in Kubernetes clouds.yaml in the Secret of swift.existingSecret"
	case errors.Is(err, swift.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		remedy = "look at the network from this node to Swift and Keystone: names, routes, firewalls, certificates"
	case errors.Is(err, swift.ErrRejected):
		remedy = "mend the address, the region or the project in the credentials"
	}
	return failure(remedy, "%v", err)
}

// clock compares Swift's clock with ours: an answer made between asked and
// answered has a date in whole seconds.
func clock(date, asked, answered time.Time) Result {
	if date.IsZero() {
		return warning("compare the clocks by hand (date -u)", "Swift's answer has no date")
	}
	var skew time.Duration // of ours; negative: it is behind
	switch {
	case date.Add(time.Second).Before(asked):
		skew = asked.Sub(date.Add(time.Second))
	case date.After(answered):
		skew = answered.Sub(date)
	}
	if skew.Abs() < skewSeen {
		return ok("it agrees with Swift's to %v", skewSeen)
	}
	const remedy = "set the clock by NTP, here and in Swift (apt-get install chrony)"
	side := "ahead of"
	if skew < 0 {
		side = "behind"
	}
	if skew.Abs() >= skewBad {
		return failure(remedy, "it is %v %s Swift's: tokens and certificates will be refused", skew.Abs().Round(time.Second), side)
	}
	return warning(remedy, "it is %v %s Swift's: ages are shown wrong", skew.Abs().Round(time.Second), side)
}
